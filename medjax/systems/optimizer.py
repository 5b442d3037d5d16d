"""The optimiser of the policies."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array
from optax.contrib import MuonDimensionNumbers, muon

from medjax.types import Params

SCHEDULES = ("constant", "linear", "cosine")


class OptimizerOptions(NamedTuple):
    """What a run chooses of `make_optimizer`, which says what each of it means."""

    lr: float
    decay: str = "constant"
    warmup: int = 0
    clip_norm: float | None = 1.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    muon_lr: float | None = None
    freeze: tuple[str, ...] = ()


def make_optimizer(
    *,
    lr: float,
    steps: int,
    decay: str = "constant",
    warmup: int = 0,
    clip_norm: float | None = 1.0,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    muon_lr: float | None = None,
    freeze: Sequence[str] = (),
) -> optax.GradientTransformation:
    """AdamW behind a clip of the gradient's norm; VLM-R1's defaults but for `decay`.

    Args:
        lr: peak learning rate, reached after `warmup` steps from 0.
        steps: of the whole run; "linear" and "cosine" reach 0 there.
        decay: "constant", "linear" (as VLM-R1) or "cosine".
        warmup: steps.
        clip_norm: None = no clip.
        weight_decay: decoupled; leaves norms and biases alone (arrays of one axis, the
            layer axis not counted).
        betas: of the moments.
        eps: beside the root of the second moment.
        muon_lr: peak rate of Muon (Jordan et al. 2024) for the kernels; norms, biases
            and the embedding stay with Adam at `lr`, undecayed and with Nesterov's
            momentum. None = AdamW for all. From nothing, Muon learns to see in half
            the steps; a pretrained policy is fine-tuned with AdamW.
        freeze: top-level parts that stay as they are ("vision").

    Raises:
        ValueError: an unknown `decay`, or more warm-up than steps.
    """
    if not 0 <= warmup <= steps:
        raise ValueError(f"warmup must lie in 0..{steps} (steps), found {warmup}")
    schedule = _schedule(lr, steps, decay, warmup)
    how = {"weight_decay": weight_decay, "eps": eps}
    if muon_lr is None:
        step = optax.adamw(schedule, *betas, mask=_decayed, **how)
    else:
        step = muon(
            _schedule(muon_lr, steps, decay, warmup),
            adam_learning_rate=schedule,
            adam_b1=betas[0],
            adam_b2=betas[1],
            muon_weight_dimension_numbers=_kernels,
            **how,
        )
    parts = [step]
    if clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(clip_norm))
    trained = optax.chain(*parts)
    if not freeze:
        return trained

    def labels(params: Params) -> Params:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "frozen" if path and path[0].key in freeze else "trained",
            params,
        )

    return optax.multi_transform(
        {"trained": trained, "frozen": optax.set_to_zero()}, labels
    )


def _schedule(lr: float, steps: int, decay: str, warmup: int) -> optax.Schedule:
    rest = max(steps - warmup, 1)
    if decay == "constant":
        tail = optax.constant_schedule(lr)
    elif decay == "linear":
        tail = optax.linear_schedule(lr, 0.0, rest)
    elif decay == "cosine":
        tail = optax.cosine_decay_schedule(lr, rest)
    else:
        raise ValueError(f"decay {decay!r}: expected one of {', '.join(SCHEDULES)}")
    head = optax.linear_schedule(0.0, lr, max(warmup, 1))
    return optax.join_schedules([head, tail], [warmup])


def _kernels(params: Params) -> Params:
    """Axes in and out of each kernel, layers apart; None for what is no matrix.

    A convolution's kernel [.., h, w, in, out] is the matrix [h w in, out].
    """

    def axes(path: tuple[Any, ...], x: Array) -> MuonDimensionNumbers | None:
        if path[-1].key != "kernel":
            return None
        into = range(x.ndim - 4 if x.ndim >= 4 else x.ndim - 2, x.ndim - 1)
        return MuonDimensionNumbers(tuple(into), x.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)


def _decayed(params: Params) -> Params:
    """True for matrices; the embedding and stacks of kernels included."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )

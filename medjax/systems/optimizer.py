"""The optimiser of the policies."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array
from optax.contrib import MuonDimensionNumbers, muon

from medjax.systems.low_precision import protected
from medjax.types import Key, Params

SCHEDULES = ("constant", "linear", "cosine")
MOMENTS = ("full", "bfloat16", "factored")
_MATRICES = ("kernel", "lora_a", "lora_b")


class OptimizerOptions(NamedTuple):
    """The options of `make_optimizer` that a run's config holds; it explains each."""

    lr: float
    decay: str = "constant"
    warmup: int = 0
    clip_norm: float | None = 1.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    muon_lr: float | None = None
    freeze: tuple[str, ...] = ()
    half: str = "refuse"
    moments: str = "full"


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
    half: str = "refuse",
    moments: str = "full",
    key: Key | None = None,
) -> optax.GradientTransformation:
    """AdamW behind a clip of the gradient's norm; VLM-R1's defaults but for `decay`.

    Args:
        lr: The peak learning rate, which a warm-up reaches from 0 in `warmup` steps.
        steps: How many updates the whole run has; "linear" and "cosine" fall to 0
            there.
        decay: What follows the warm-up: "constant" stays at the peak, "linear" (as
            VLM-R1) and "cosine" fall from it.
        warmup: How many updates the rate rises linearly over, from 0 to `steps`. The
            first of them has the rate 0 and changes nothing; 0 starts at the peak.
        clip_norm: A gradient whose norm over all trained arrays is larger is scaled to
            this norm, which is above 0; None never clips.
        weight_decay: Decoupled: each update takes this times the learning rate of a
            weight away. Norms and biases (arrays of one axis, the layer axis not
            counted) keep theirs.
        betas: The decay of the mean gradient and of the mean square, each in [0, 1).
            With `muon_lr` they are those of the arrays that stay with Adam.
        eps: Added to the root of the mean square, above 0, so that no update divides by
            0.
        muon_lr: The peak rate of Muon (Jordan et al. 2024) for the kernels and for the
            matrices of adapters, on the same schedule; norms, biases and the embedding
            stay with Adam at `lr`, undecayed and with Nesterov's momentum. None takes
            AdamW for all. From nothing, Muon learns to see in half the steps; a
            pretrained policy is fine-tuned with AdamW.
        freeze: Keys at the top of the tree of parameters, such as "vision", whose
            arrays stay as they are. A key that the tree lacks freezes nothing.
        half: What is done about trained parameters in half precision, whose updates
            would be lost in rounding: "master" moves a float32 copy of them, which the
            state then has beside its moments; "stochastic" rounds by chance; "refuse"
            raises a ValueError at the first update, before it is compiled.
        moments: "full" keeps mean and mean square of the gradient in float32, 8 bytes a
            parameter; "bfloat16" the mean in half precision, 6; "factored" no mean, and
            of the square the means over rows and over columns (Adafactor: Shazeer and
            Stern 2018, without its clip and its scale by the parameter), which is next
            to nothing. `betas` are not read then.
        key: One typed key, of the noise of `half="stochastic"`.

    Raises:
        ValueError: `decay`, `half` or `moments` is unknown, `warmup` is negative or
            above `steps`, or `muon_lr` stands beside `moments` other than "full".
    """
    if not 0 <= warmup <= steps:
        raise ValueError(
            f"warmup must lie in 0..{steps} (steps), found {warmup}; expected fewer as "
            "optim.warmup of the stage, or more steps of it"
        )
    schedule = _schedule(lr, steps, decay, warmup)
    how = {"weight_decay": weight_decay, "eps": eps}
    if moments not in MOMENTS:
        raise ValueError(f"moments {moments!r}: expected one of {', '.join(MOMENTS)}")
    if muon_lr is not None and moments != "full":
        raise ValueError(
            f"muon_lr {muon_lr:g} and moments {moments!r}: Muon keeps one moment, in "
            "float32; set muon_lr=None"
        )
    if moments == "factored":
        step = optax.chain(
            optax.scale_by_factored_rms(),
            optax.add_decayed_weights(weight_decay, mask=_decayed),
            optax.scale_by_learning_rate(schedule),
        )
    elif muon_lr is None:
        kind = "bfloat16" if moments == "bfloat16" else None
        step = optax.adamw(schedule, *betas, mask=_decayed, mu_dtype=kind, **how)
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
    trained = protected(optax.chain(*parts), half, key)
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
    """Axes in and out of each matrix, layers apart; None for norms and the like.

    A convolution's kernel [.., h, w, in, out] is the matrix [h w in, out].
    """

    def axes(path: tuple[Any, ...], x: Array) -> MuonDimensionNumbers | None:
        if path[-1].key not in _MATRICES:
            return None
        into = range(x.ndim - 4 if x.ndim >= 4 else x.ndim - 2, x.ndim - 1)
        return MuonDimensionNumbers(tuple(into), x.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)


def _decayed(params: Params) -> Params:
    """True for matrices; the embedding and stacks of kernels included."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in (*_MATRICES, "embedding"), params
    )

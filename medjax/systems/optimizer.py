"""The optimiser of the policies."""

from collections.abc import Sequence

import jax
import optax

from medjax.types import Params

SCHEDULES = ("constant", "linear", "cosine")


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
        freeze: top-level parts that stay as they are ("vision").

    Raises:
        ValueError: an unknown `decay`, or more warm-up than steps.
    """
    if not 0 <= warmup <= steps:
        raise ValueError(f"warmup must lie in 0..{steps} (steps), found {warmup}")
    rest = steps - warmup
    if decay == "constant":
        tail = optax.constant_schedule(lr)
    elif decay == "linear":
        tail = optax.linear_schedule(lr, 0.0, max(rest, 1))
    elif decay == "cosine":
        tail = optax.cosine_decay_schedule(lr, max(rest, 1))
    else:
        raise ValueError(f"decay {decay!r}: expected one of {', '.join(SCHEDULES)}")
    head = optax.linear_schedule(0.0, lr, max(warmup, 1))
    schedule = optax.join_schedules([head, tail], [warmup])
    adam = optax.adamw(
        schedule,
        b1=betas[0],
        b2=betas[1],
        eps=eps,
        weight_decay=weight_decay,
        mask=_decayed,
    )
    parts = [adam]
    if clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(clip_norm))
    trained = optax.chain(*parts)
    if not freeze:
        return trained

    def labels(params: Params) -> Params:
        return {part: "frozen" if part in freeze else "trained" for part in params}

    return optax.multi_transform(
        {"trained": trained, "frozen": optax.set_to_zero()}, labels
    )


def _decayed(params: Params) -> Params:
    """True for matrices; the embedding and stacks of kernels included."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )

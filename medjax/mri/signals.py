"""Signals of quantitative MRI: of any model, and of each by its formula.

    S(t) = sum_k a_k phi_k(t, R),   R = 1 / T

Times are seconds, flip angles radians, amplitudes in the unit of the image. The models
themselves, and where they hold, are in `medjax.mri.catalogue`.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from medjax.checks import check_arrays
from medjax.mri.catalogue import T1_IR, T1_IR3, T1_SR, T2, T2_OFFSET, vfa_model
from medjax.mri.epg import (
    echo_train,
    epg_model,
    spacing_of,
    squared_cosine,
    train_echoes,
)
from medjax.mri.model import (
    SignalModel,
    Value,
    check_contrasts,
    check_functions,
    check_model,
)
from medjax.mri.parameters import (
    as_dtype,
    ordered_parameters,
    real_dtype,
    series,
    voxel_shape,
)
from medjax.mri.times import Times


def signal(
    model: SignalModel, parameters: dict[str, Value], times: Times
) -> Inexact[Array, "E *N"]:
    """S(t) = sum_k a_k phi_k(t, R) of any model, whose record holds the functions phi.

    The amplitudes a and the rate R = 1 / T follow from the parameters; for "t2" this is
    s0 exp(-t / t2).

    Args:
        model: As `signal_model` gives it, or a `SignalModel` of your own.
        parameters: By name, exactly the model's: Python numbers, or arrays of floats or
            integers that broadcast to the voxels [*N]. Time constants are seconds, and
            above 0 (0, a negative or non-finite one is not refused: the formula gives
            NaN, Inf or a curve without a meaning); s0 and offset are in the unit of the
            image and may be complex, the others are real.
        times: Seconds (flip angles: radians), in any order and not checked; one list
            for all voxels, or one for each where they differ (actual flip angles, say).
            None at all gives an empty result.

    Returns:
        The signal in the unit of s0, in the dtype that JAX promotes the parameters to
        (Python numbers adapt to the arrays); times are converted to it. Complex if a
        parameter is.

    Raises:
        ValueError: something else than a SignalModel, functions of a model of your own
            that do not fit its fields or each other, a parameter that is missing or not
            one of the model's, a complex one that must be real, shapes that do not
            broadcast.
    """
    return model_signal("signal", model, parameters, times)


def model_signal(
    function: str, model: SignalModel, parameters: dict[str, Value], times: Times
) -> Inexact[Array, "E *N"]:
    """`signal`, for a function whose name its messages begin with.

    Args:
        function: The public function's name.
        model: Of `signal`, like the others.
        parameters: By name.
        times: Seconds, or radians.
    """
    check_model(function, model)
    check_functions(function, model)
    given = ordered_parameters(function, model, parameters)
    dtype = real_dtype(*given)
    values = [as_dtype(v, dtype) for v in given]
    with_values, times = times, jnp.asarray(times)
    check_arrays(function, times=(times, "E ...", (float, int)))
    check_contrasts(function, model, len(times))
    shapes = {k: v.shape for k, v in zip(model.parameters, values, strict=True)}
    shape = voxel_shape(function, shapes | {"times": times.shape[1:]})
    values = [jnp.broadcast_to(v, shape) for v in values]
    times = series(times, len(shape)).astype(dtype)
    if model.train:
        echoes = train_echoes(function, model, with_values) if len(times) else ()
        return _train_signal(model._replace(echoes=echoes), values, times)
    amplitudes, rate = model.from_parameters(*values)
    constants = (
        series(jnp.asarray(c, dtype), len(shape)) if isinstance(c, tuple) else c
        for c in model.constants
    )
    basis = model.basis(rate[None], times, *constants)
    terms = (
        a[None] * phi.astype(a.dtype) for a, phi in zip(amplitudes, basis, strict=True)
    )
    return functools.reduce(jnp.add, terms)


def _train_signal(
    model: SignalModel, values: list[Array], times: Float[Array, "E *#N"]
) -> Inexact[Array, "E *N"]:
    s0, t2, angle = values
    if not model.echoes:
        return jnp.zeros((0, *s0.shape), s0.dtype)
    spacing, _ = spacing_of(list(times), model.echoes)
    count = max(model.echoes)
    x = squared_cosine(angle)
    echoes = echo_train(1 / t2, x, spacing, count, *model.constants)
    return jnp.stack([s0 * echoes[n - 1].astype(s0.dtype) for n in model.echoes])


def signal_t2_epg(
    s0: Value, t2: Value, angle: Value, times: Times, *, t1: float = 1.0
) -> Inexact[Array, "E *N"]:
    """Echoes of a spin-echo train, with stimulated ones: the extended phase graph.

    At 180 degrees it is s0 exp(-t/T2). Differentiable to any order by all but `t1`;
    the derivative by the angle at 180 degrees is 0, as the signal is even about it.

    Args:
        s0: Signal at time 0, in the unit of the image; real or complex, a number or an
            array that broadcasts with the others to the voxels [*N].
        t2: T2 in seconds, above 0: not checked; of a negative one the signal rises. NaN
            makes its voxel NaN, as in `s0` and `angle`.
        angle: Refocusing angle in radians, the same for all pulses and everywhere in
            the voxel; any real number: a, -a and 2 pi - a give the same echoes, 0 none.
        times: Echo times n * spacing in seconds, n = 1, 2, .., of which some may be
            missing, in any order; traced ones are taken for n = 1 to E. One list for
            all voxels, or one for each with the same n.
        t1: T1 in seconds, above 0 and at most 20; static.

    Returns:
        Contrasts first, in the dtype that the parameters are promoted to; complex if s0
        is.

    Raises:
        ValueError: times that are not those of one train, a T1 out of its range, a
            complex T2 or angle, or shapes that do not broadcast.

    Source: Weigel 2015, J Magn Reson Imaging 41:266; see `medjax.mri.epg`.

    >>> angle = 2.0944  # 120 degrees
    >>> [round(float(x), 3) for x in signal_t2_epg(1.0, 0.08, angle, [0.01, 0.02])]
    [0.662, 0.73]
    """
    return model_signal(
        "signal_t2_epg", epg_model(t1), {"s0": s0, "t2": t2, "angle": angle}, times
    )


def signal_t2(
    s0: Value, t2: Value, times: Times, *, offset: Value | None = None
) -> Inexact[Array, "E *N"]:
    """s0 exp(-t/T2) + offset, for T2* as well.

    Args:
        s0: Signal at time 0, in the unit of the image; real or complex, a number or an
            array that broadcasts with the others to the voxels [*N]. NaN of any of them
            makes its voxel NaN.
        t2: T2 in seconds, above 0: not checked, 0 gives NaN at time 0, and of a
            negative one the signal rises.
        times: Echo times in seconds, for all voxels or for each; of any sign and order,
            not checked. None at all gives an empty result.
        offset: What remains at late times, in the unit of s0; None = 0.

    Returns:
        Contrasts first, in the dtype that the parameters are promoted to; complex if s0
        or offset is.

    Raises:
        ValueError: a complex T2, or shapes that do not broadcast.

    >>> [round(float(x), 3) for x in signal_t2(1.0, 0.08, [0.0, 0.08])]
    [1.0, 0.368]
    """
    if offset is None:
        return model_signal("signal_t2", T2, {"s0": s0, "t2": t2}, times)
    return model_signal(
        "signal_t2", T2_OFFSET, {"s0": s0, "t2": t2, "offset": offset}, times
    )


def signal_t1_ir(
    s0: Value, t1: Value, times: Times, *, efficiency: Value | None = None
) -> Inexact[Array, "E *N"]:
    """s0 (1 - 2 efficiency exp(-t/T1)): inversion recovery, signed.

    Args:
        s0: Signal when all has recovered, in the unit of the image; real or complex, a
            number or an array that broadcasts with the others to the voxels [*N].
        t1: T1 in seconds, above 0: not checked, 0 gives NaN at time 0, and of a
            negative one the signal runs away. NaN makes its voxel NaN, here as in the
            others.
        times: Inversion times in seconds, for all voxels or for each; of any sign and
            order, not checked. None at all gives an empty result.
        efficiency: Without a unit: 1 is a full inversion, 0.5 a saturation, 0 neither.
            None = 1.

    Returns:
        Contrasts first, in the dtype that the parameters are promoted to; complex if s0
        is. The repetition time is not in the model: it has to be long beside T1.

    Raises:
        ValueError: a complex T1 or efficiency, or shapes that do not broadcast.
    """
    if efficiency is None:
        return model_signal("signal_t1_ir", T1_IR, {"s0": s0, "t1": t1}, times)
    return model_signal(
        "signal_t1_ir", T1_IR3, {"s0": s0, "t1": t1, "efficiency": efficiency}, times
    )


def signal_saturation_recovery(
    s0: Value, t1: Value, times: Times
) -> Inexact[Array, "E *N"]:
    """s0 (1 - exp(-t/T1)): recovery from a full saturation.

    Args:
        s0: Signal when all has recovered, in the unit of the image; real or complex, a
            number or an array that broadcasts with `t1` to the voxels [*N].
        t1: T1 in seconds, above 0: not checked, 0 gives NaN at time 0, and of a
            negative one the signal runs away. NaN makes its voxel NaN, as in `s0`.
        times: Times from saturation to excitation in seconds, for all voxels or for
            each; of any sign and order, not checked. None at all gives an empty result.

    Returns:
        Contrasts first, in the dtype that the parameters are promoted to; complex if s0
        is.

    Raises:
        ValueError: a complex T1, or shapes that do not broadcast.
    """
    return model_signal(
        "signal_saturation_recovery", T1_SR, {"s0": s0, "t1": t1}, times
    )


def signal_vfa(
    s0: Value, t1: Value, angles: Times, *, repetition_time: float | Sequence[float]
) -> Inexact[Array, "E *N"]:
    """Ernst's signal of the spoiled gradient echo, without T2*.

        s0 sin(a) (1 - E) / (1 - cos(a) E),   E = exp(-TR/T1)

    Args:
        s0: Signal after 90 degrees from full recovery, in the unit of the image; real
            or complex, a number or an array that broadcasts with `t1` to the voxels.
        t1: T1 in seconds, above 0: not checked; the formula of a negative one has no
            meaning. NaN makes its voxel NaN, as in `s0`.
        angles: Flip angles in radians, any real number; with a B1 map the actual ones,
            one list for each voxel. 0 gives 0.
        repetition_time: TR in seconds, above 0 and at most 10; one for all angles, or
            one for each.

    Returns:
        Angles first, in the dtype that the parameters are promoted to; complex if s0
        is.

    Raises:
        ValueError: a repetition time out of its range or another number of them, a
            complex T1, or shapes that do not broadcast.

    Source: Ernst and Anderson, Rev. Sci. Instrum. 37 (1966).
    """
    return model_signal(
        "signal_vfa", vfa_model(repetition_time), {"s0": s0, "t1": t1}, angles
    )

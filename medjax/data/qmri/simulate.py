"""One simulated acquisition: from a slice of a subject to noisy undersampled k-space.

Everything is a function of (subject's key, height, draw): coils and noise level belong
to the subject, masks and noise to the draw.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float, Inexact

from medjax.data.qmri.coils import coil_maps
from medjax.data.qmri.fields import smooth_field
from medjax.data.qmri.relaxation import CONTRASTS, mixture_signals
from medjax.data.qmri.rendering import BrainSlice, pixel_axes
from medjax.mri.masks import undersampling_mask

T2_TIMES = (0.0, 0.025, 0.035, 0.045, 0.065, 0.085, 0.105, 0.125)  # s, PUQ's data
T1_TIMES = tuple(0.05 * 80 ** (i / 7) for i in range(8))  # s, 0.05 to 4
_LONGEST = 30.0  # s: what is longer was meant in ms
_LEVEL, _COILS, _PHASE, _DRAW = 4, 5, 6, 7  # streams, after those of `rendering`


class Protocol(NamedTuple):
    """What is measured; `make_protocol` checks it.

    t2: times are those of the T2 preparation, TE. t1: TI of an inversion recovery.
    """

    contrast: str  # of `relaxation.CONTRASTS`
    times: tuple[float, ...]  # E, in s


class Acquisition(NamedTuple):
    """How it is measured."""

    protocol: Protocol
    coils: int  # C, 1 or more
    mask: str  # a kind of `undersampling_mask`, or "full"
    accelerations: tuple[float, ...]  # each 1 or more, see `batches`; unused if full
    center_fraction: float  # share of the columns that are fully sampled, 0 to 1
    # Lowest and highest of the subjects' signal-to-noise ratios: mean over the brain of
    # the strongest signal, over the standard deviation of the real part of the fully
    # sampled, combined image. inf = no noise.
    snr: tuple[float, float]
    phase: float = 0.0  # rad: deviation of a smooth phase of the object


class Acquired(NamedTuple):
    """One slice as measured, with the truth."""

    kspace: Complex[np.ndarray, "E C H W"]  # centred, 0 where not sampled
    mask: Bool[np.ndarray, "E #H W"]  # H = 1: whole lines
    sens: Complex[np.ndarray, "C H W"]  # sum_c |S_c|^2 = 1
    target: Float[np.ndarray, "E H W"]  # noiseless, signed; largest magnitude 1
    snr: float  # the subject's, see `Acquisition`; inf: no noise
    noise: float  # deviation of the real and of the imaginary part, every coil


def make_protocol(contrast: str, times: tuple[float, ...] | None = None) -> Protocol:
    """A protocol whose times are checked.

    Args:
        contrast: "t2" for echo times or "t1" for inversion times.
        times: At least two different ones in s, from 0 to 30, in any order; None takes
            those of PUQ for "t2" and our own for "t1".

    Raises:
        ValueError: The contrast is unknown, there are fewer than two times, or times
            are negative, repeated, not finite, or so long that they must be
            milliseconds.
    """
    if contrast not in CONTRASTS:
        raise ValueError(f"contrast {contrast!r}: expected one of {CONTRASTS}")
    if times is None:
        times = T2_TIMES if contrast == "t2" else T1_TIMES
    values = np.asarray(times, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"times {times}: expected at least two, in seconds")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"times {times}: expected finite seconds, none negative")
    if len(np.unique(values)) < len(values):
        raise ValueError(f"times {times}: expected each once")
    if values.max() > _LONGEST:
        raise ValueError(
            f"times {times}: expected seconds, found up to {values.max():g}; if these "
            "are milliseconds, divide by 1000"
        )
    return Protocol(contrast, tuple(values.tolist()))


def signals(brain: BrainSlice, protocol: Protocol) -> Float[np.ndarray, "E H W"]:
    """The noiseless images of a slice, scaled so that the largest magnitude is 1.

    Args:
        brain: The slice, from `render_slice`.
        protocol: What is measured; after an inversion images are signed.

    Returns:
        E images, one for each of the protocol's times, without a unit.
    """
    images = mixture_signals(
        brain.mixture, protocol.contrast, np.array(protocol.times, np.float64)
    )
    return images / np.abs(images).max()


def subject_snr(key: tuple[int, int], snr: tuple[float, float]) -> float:
    """The subject's own signal-to-noise ratio, drawn evenly between two limits.

    Args:
        key: The subject's (seed, number); equal keys give the same ratio.
        snr: The lowest and the highest ratio, above 0; where they are equal nothing is
            drawn, and infinity, twice, is no noise.

    Raises:
        ValueError: The limits are not positive or not in order.
    """
    low, high = snr
    if not 0 < low <= high:
        raise ValueError(f"snr={snr}: expected 0 < lowest <= highest")
    if low == high:
        return float(low)
    return float(np.random.default_rng((*key, _LEVEL)).uniform(low, high))


def acquire(
    brain: BrainSlice,
    acquisition: Acquisition,
    *,
    key: tuple[int, int],
    z: float,
    field: float,
    draw: tuple[int, ...],
    acceleration: float,
) -> Acquired:
    """Measure a slice once; coils, phase and noise level are the subject's.

    Args:
        brain: The slice, as many rows as columns.
        acquisition: How it is measured; its accelerations are not used.
        key: The subject's (seed, number), which decides coils, phase and noise level.
        z: The slice's height in mm, the one that it was rendered at.
        field: The side of the view in mm, the one that it was rendered with.
        draw: Non-negative numbers that tell this measurement from all others of the
            subject; equal ones give the same mask and noise.
        acceleration: The one that the mask is drawn for, 1 or more; a full mask ignores
            it.

    Returns:
        k-space, mask and sensitivities as a scanner would give them, and the truth.
    """
    target = signals(brain, acquisition.protocol)
    size = target.shape[-1]
    y, x = pixel_axes(size, field)
    ring = np.random.default_rng((*key, _COILS))
    sens = coil_maps(ring, z, y, x, coils=acquisition.coils)
    images = target
    if acquisition.phase:
        (turn,) = smooth_field((*key, _PHASE), z, y, x, spacing=60.0, channels=1)
        images = target * np.exp(1j * np.float32(acquisition.phase) * turn)
    snr = subject_snr(key, acquisition.snr)
    noise = float(np.abs(target).max(axis=0)[brain.roi].mean()) / snr
    rng = np.random.default_rng((*key, _DRAW, *draw))
    mask = _draw_mask(acquisition, sens.shape, acceleration, int(rng.integers(1 << 31)))
    kspace = sample_kspace(images, sens, mask, noise, rng)
    return Acquired(kspace, mask, sens, target, snr, noise)


def sample_kspace(
    images: Inexact[np.ndarray, "E H W"],
    sens: Complex[np.ndarray, "C H W"],
    mask: Bool[np.ndarray, "E #H W"],
    noise: float,
    rng: np.random.Generator,
) -> Complex[np.ndarray, "E C H W"]:
    """y[e, c] = M_e (F(S_c x_e) + n), F centred and orthonormal, n complex and white.

    `mri.sense.sense_forward` on the host. Columns without a sample are neither
    transformed along the rows nor given noise.

    Args:
        images: x_e, real or complex, in any unit, which k-space then has.
        sens: S_c, whose dtype is that of the result; complex64 as a rule.
        mask: M_e, True where k-space is measured; H = 1 stands for whole lines.
        noise: Deviation of the real and of the imaginary part of n, in the images'
            unit; 0 adds none and draws nothing.
        rng: It draws n, and nothing else.
    """
    from scipy import fft

    origin = fft.ifftshift(np.arange(images.shape[-1]))  # centred column of FFT's
    images, coils = (fft.ifftshift(a, axes=(-2, -1)) for a in (images, sens))
    kspace = np.zeros((len(images), *sens.shape), sens.dtype)
    for e, lines in enumerate(mask):
        used = lines.any(axis=0)[origin]
        spectrum = np.asarray(fft.fft(images[e] * coils, axis=-1, norm="ortho"))
        spectrum = fft.fft(spectrum[:, :, used], axis=-2, norm="ortho")
        samples = fft.fftshift(spectrum, axes=-2)
        if noise:
            parts = rng.standard_normal((*samples.shape, 2), np.float32)
            samples = samples + np.float32(noise) * parts.view(np.complex64)[..., 0]
        columns = origin[used]
        kspace[e][:, :, columns] = np.where(lines[:, columns], samples, 0)
    return kspace


def _draw_mask(
    acquisition: Acquisition,
    shape: tuple[int, ...],
    acceleration: float,
    seed: int,
) -> Bool[np.ndarray, "E #H W"]:
    contrasts = len(acquisition.protocol.times)
    if acquisition.mask == "full":
        return np.ones((contrasts, 1, shape[-1]), bool)
    return undersampling_mask(
        acquisition.mask,
        seed=seed,
        contrasts=contrasts,
        size=(shape[-2], shape[-1]),
        acceleration=acceleration,
        center_fraction=acquisition.center_fraction,
    )

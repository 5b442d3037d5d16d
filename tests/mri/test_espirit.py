"""ESPIRiT against the dense definition, SigPy, BART and the truth."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.espirit import estimate_sensitivities, noise_share
from medjax.mri.masks import calibration_size, undersampling_mask
from medjax.mri.sense import sense_forward
from tests.mri.coils import simulated_kspace

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "espirit.npz"
OPTIONS = {"calibration": (16, 16), "kernel": 4, "threshold": 0.02, "crop": 0.8}


def estimate(kspace, **options):
    options = OPTIONS | options
    return np.asarray(
        jax.jit(lambda k: estimate_sensitivities(k, **options))(jnp.asarray(kspace))
    )


def match(a, b):
    """|<a, b>| a pixel where both are inside: 1 = the same up to a phase."""
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.abs(np.sum(a.conj() * b, axis=0))[norms > 0.5]


def outside_their_span(images, sens):
    """Share of coil images [C, H, W] that the sensitivities cannot explain."""
    rest = images - sens * np.sum(sens.conj() * images, axis=0)
    return np.linalg.norm(rest) / np.linalg.norm(images)


def dense_definition(block, size, kernel, threshold):
    """Every kept kernel zero-padded and transformed; eigenvectors by LAPACK."""
    coils, h, w = block.shape
    patches = [
        block[:, i : i + kernel, j : j + kernel].ravel()
        for i in range(h - kernel + 1)
        for j in range(w - kernel + 1)
    ]
    _, values, rows = np.linalg.svd(np.array(patches), full_matrices=False)
    kernels = rows[values > threshold * values[0]].reshape(-1, coils, kernel, kernel)
    padded = np.zeros((len(kernels), coils, *size), complex)
    top, left = size[0] // 2 - kernel // 2, size[1] // 2 - kernel // 2
    padded[..., top : top + kernel, left : left + kernel] = kernels
    waves = np.fft.ifftshift(padded, (-2, -1))
    waves = np.fft.fftshift(np.fft.ifft2(waves, norm="forward"), (-2, -1))
    matrix = np.einsum("ncyx,ndyx->yxcd", waves, waves.conj()) / kernel**2
    values, vectors = np.linalg.eigh(matrix)
    return values[..., -1], np.moveaxis(vectors[..., -1], -1, 0)


@pytest.mark.parametrize("side", [16, 9])  # more patches than entries, and fewer
@pytest.mark.parametrize("size", [(24, 20), (21, 23)])
def test_equals_the_dense_definition(size, side):
    kspace, _ = simulated_kspace(size, contrasts=1)
    y, x = size[0] // 2 - side // 2, size[1] // 2 - side // 2
    block = kspace[0, :, y : y + side, x : x + side]
    eigenvalue, expected = dense_definition(block, size, 4, 0.02)
    found = estimate(kspace, calibration=(side, side), iterations=200)
    inside = eigenvalue > 0.8
    clear = np.abs(eigenvalue - 0.8) > 1e-9
    np.testing.assert_array_equal((found != 0).any(0)[clear], inside[clear])
    np.testing.assert_allclose(np.linalg.norm(found, axis=0)[inside], 1, rtol=1e-12)
    # 200 steps leave (second / first eigenvalue)^200.
    np.testing.assert_allclose(match(found, expected * inside), 1, rtol=1e-6)


def test_equals_sigpy_and_bart_on_stored_data():
    with np.load(GOLDEN) as golden:
        sigpy, bart = golden["sigpy"], golden["bart"]
    kspace, truth = simulated_kspace()
    found = estimate(kspace[:1])
    object_ = (truth != 0).any(0)
    coils = np.asarray(truth * np.linalg.norm(kspace[0]))
    assert match(found * object_, sigpy).min() > 1 - 1e-5  # float32 on their side
    assert match(found * object_, bart).min() > 0.99  # BART smooths its covariance
    ours = outside_their_span(coils, found)
    assert ours < 1.02 * outside_their_span(coils, sigpy)
    assert ours < 1.02 * outside_their_span(coils, bart)


def test_finds_the_sensitivities_of_the_object():
    kspace, truth = simulated_kspace((32, 32))
    found = estimate(kspace, calibration=(20, 12), kernel=5)
    assert match(found, truth).min() > 0.99
    assert np.median(match(found, truth)) > 0.9995
    inside = (truth != 0).any(0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0)[inside], 1, rtol=1e-12)


def test_contrasts_count_by_their_energy():
    kspace, _ = simulated_kspace(contrasts=1)
    alone = estimate(kspace)
    null = estimate(np.concatenate([kspace, 1e-9 * kspace[:, ::-1]]))
    np.testing.assert_allclose(null, alone, atol=1e-12)
    np.testing.assert_allclose(estimate(kspace[[0, 0]]), alone, atol=1e-9)


def test_phase_is_fixed_and_smooth():
    kspace, truth = simulated_kspace((32, 32))
    found = estimate(kspace)
    np.testing.assert_allclose(estimate(kspace * np.exp(2j)), found, atol=1e-8)
    inside = (truth != 0).any(0)
    both = inside[1:] & inside[:-1]
    turns = np.angle(np.sum(found[:, 1:].conj() * found[:, :-1], axis=0))[both]
    assert np.abs(turns).max() < 0.4


def test_soft_crop_only_fades():
    kspace, _ = simulated_kspace()
    hard, soft = estimate(kspace), estimate(kspace, soft=True)
    weight = np.linalg.norm(soft, axis=0)
    assert weight.max() <= 1 + 1e-12 and np.any((weight > 0.01) & (weight < 0.99))
    np.testing.assert_allclose(soft, hard * weight, atol=1e-12)


def test_a_batch_is_each_alone_in_single_precision():
    pair = np.stack([simulated_kspace(seed=s)[0] for s in (0, 1)])
    pair = pair.astype("complex64")
    found = estimate(pair)
    assert found.dtype == np.complex64
    for k, maps in zip(pair, found, strict=True):
        np.testing.assert_allclose(maps, estimate(k), atol=1e-4)


def test_silence_gives_no_object_and_nan_gives_nan():
    kspace, _ = simulated_kspace()
    assert not np.any(estimate(0 * kspace))
    kspace[0, 0, 12, 10] = np.nan
    assert not np.any(np.isfinite(estimate(kspace)) & (estimate(kspace) != 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": (3, 16)}, r"calibration \(3, 16\) must hold the kernel, 4"),
        ({"calibration": (16, 21)}, r"fit the image \(24, 20\)"),
    ],
)
def test_bad_sizes(options, message):
    kspace, _ = simulated_kspace()
    with pytest.raises(ValueError, match=message):
        estimate(kspace, **options)
    with pytest.raises(ValueError, match=r"kspace: expected .* found .* \(4, 24, 20\)"):
        estimate(kspace[0])


def test_in_vivo_as_good_as_bart_and_sigpy(shared):
    """The authors' mask has 13 centre columns; judged by the coil images of TE = 0."""
    app = pytest.importorskip("sigpy.mri.app")
    if shutil.which("bart") is None:
        pytest.skip("no bart on the PATH")
    from tests.golden.make_espirit import bart_maps

    with np.load(shared / "data" / "invivo_t2_slice.npz") as data:
        image, sens, seed = data["image"], data["sens"], int(data["seed"])
        roi = data["roi"]
    mask = undersampling_mask(
        "random",
        seed=seed,
        contrasts=8,
        size=(160, 160),
        acceleration=6,
        center_fraction=0.08,
    )
    side = min(calibration_size(mask, size=(160, 160), limit=24))
    kspace = np.asarray(sense_forward(image.astype("complex64"), sens, mask))
    coils = image[0] * sens * roi
    found = estimate(kspace, calibration=(24, side), kernel=6)
    peers = {
        "sigpy": app.EspiritCalib(
            kspace[0], calib_width=side, thresh=0.02, crop=0.8, show_pbar=False
        ).run(),
        "bart": bart_maps(kspace[0], side),
    }
    ours = outside_their_span(coils, found)
    assert ours < 0.03
    for name, maps in peers.items():
        assert ours < outside_their_span(coils, maps), name


def weighted(kspace, **options):
    """A number that depends on every entry of the maps."""
    maps = estimate_sensitivities(kspace, **(OPTIONS | options))
    parts = np.random.default_rng(7).standard_normal((2, *maps.shape))
    return jnp.sum(jnp.real((parts[0] + 1j * parts[1]) * maps))


GRADIENTS = {
    "more patches than entries": {"calibration": (10, 10), "kernel": 3},
    "fewer patches": {"calibration": (5, 5), "kernel": 3, "threshold": 0.3},
    "soft": {"calibration": (10, 10), "kernel": 3, "soft": True},
}


@pytest.mark.parametrize("options", GRADIENTS.values(), ids=GRADIENTS)
def test_the_gradient_equals_differences(options):
    k = jnp.asarray(simulated_kspace((12, 10), coils=3, contrasts=1)[0])
    change = jnp.asarray(simulated_kspace((12, 10), 3, 1, noise=1, seed=1)[0])
    total = jax.jit(lambda k: weighted(k, **options))
    found = jnp.real(jnp.sum(jax.jit(jax.grad(total))(k) * change))
    step = 1e-6
    ahead, behind = (total(k + sign * step * change) for sign in (1, -1))
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-5)


def test_the_gradient_is_finite_where_there_is_no_signal():
    k = simulated_kspace((12, 10), coils=3, contrasts=2)[0]
    dead, silent, equal = k.copy(), 0 * k, np.repeat(k[:, :1], 3, axis=1)
    dead[:, 2] = 0
    options = {"calibration": (8, 8), "kernel": 3}
    gradient = jax.jit(jax.grad(lambda k: weighted(k, **options)))
    for kspace in (dead, silent, equal, np.zeros_like(k) + (k == k[0, 0, 6, 5])):
        assert np.isfinite(gradient(kspace)).all()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 6, 4), (2, 3, 1, 8)])
def test_one_pixel_one_coil_one_row(shape):
    """A rank of 1: the only map is the coils' own, of a real reference."""
    parts = np.random.default_rng(0).standard_normal((2, *shape))
    k = parts[0] + 1j * parts[1]
    found = estimate(k, calibration=(1, 1), kernel=1, crop=0.5)
    assert found.shape == shape[1:]
    if shape[1] == 1:
        np.testing.assert_allclose(found, 1, rtol=1e-12)
    else:
        # the coils' covariance at the centre has rank E = 2 of 3
        centre = k[:, :, shape[2] // 2, shape[3] // 2]
        span = np.linalg.svd(centre.T)[0][:, :2]
        np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, rtol=1e-12)
        inside = np.einsum("vc,chw->vhw", span.conj().T, found)
        np.testing.assert_allclose(np.linalg.norm(inside, axis=0), 1, rtol=1e-9)


def test_a_batch_of_none_gives_none():
    assert estimate(np.zeros((0, 2, 3, 20, 20), complex)).shape == (0, 3, 20, 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 0}, "kernel: expected an integer of at least 1, found 0"),
        ({"kernel": 2.0}, "kernel: expected an integer .* found 2.0"),
        ({"calibration": (8.5, 8)}, "calibration: expected an integer .* found 8.5"),
        ({"iterations": -1}, "iterations: expected an integer of at least 0, found -1"),
        ({"threshold": 1.0}, "threshold: expected from 0 to below 1, found 1.0"),
        ({"threshold": -0.1}, "threshold: expected from 0 to below 1, found -0.1"),
        ({"crop": 1}, "crop: expected from 0 to below 1, found 1"),
        ({"crop": np.nan}, "crop: expected from 0 to below 1, found nan"),
    ],
)
def test_numbers_out_of_their_range(options, message):
    with pytest.raises(ValueError, match=f"estimate_sensitivities: {message}"):
        estimate(simulated_kspace()[0], **options)


@pytest.mark.parametrize("shape", [(0, 3, 20, 20), (2, 0, 20, 20)])
def test_no_contrast_and_no_coil_are_refused(shape):
    with pytest.raises(ValueError, match="at least one contrast and one coil"):
        estimate(np.zeros(shape, complex))


def test_shares_may_be_traced():
    k = jnp.asarray(simulated_kspace()[0])
    program = jax.jit(
        lambda k, crop, threshold: estimate_sensitivities(
            k, **(OPTIONS | {"crop": crop, "threshold": threshold})
        )
    )
    np.testing.assert_allclose(program(k, 0.8, 0.02), estimate(k), atol=1e-12)


@pytest.mark.parametrize(("coils", "contrasts"), [(6, 8), (6, 2), (4, 8)])
def test_noise_is_told_from_signal_in_the_calibration(coils, contrasts):
    """The share is that of the largest singular value of noise alone, to a tenth."""
    block = {"calibration": (24, 20), "kernel": 5}
    found = jax.jit(lambda k: noise_share(k, **block))
    options = {"coils": coils, "contrasts": contrasts}
    clean, _ = simulated_kspace(noise=0, **options)
    assert found(jnp.asarray(clean)) < 0.01
    assert found(jnp.zeros(clean.shape, complex)) == 0

    def largest(kspace):
        windows = np.lib.stride_tricks.sliding_window_view(kspace, (5, 5), (-2, -1))
        rows = np.moveaxis(windows, 1, 3).reshape(-1, coils * 25)
        return np.linalg.norm(rows, 2)

    for level in (0.1, 0.3):
        kspace, sens = simulated_kspace(noise=level, **options)
        expected = largest(kspace - clean) / largest(kspace)
        share = float(found(jnp.asarray(kspace)))
        assert share == pytest.approx(expected, rel=0.12)
        kept = {"calibration": (24, 20), "kernel": 5}
        fine = match(estimate(kspace, **kept, threshold=share), sens)
        assert np.median(fine) > 0.95

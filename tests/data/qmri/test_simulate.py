import jax
import numpy as np
import pytest

from medjax.data.qmri.brains import slice_height
from medjax.data.qmri.rendering import render_slice
from medjax.data.qmri.simulate import (
    T1_TIMES,
    T2_TIMES,
    acquire,
    make_protocol,
    sample_kspace,
    signals,
    subject_snr,
)
from medjax.data.qmri.subjects import draw_subject
from medjax.mri.masks import undersampling_mask
from medjax.mri.sense import sense_adjoint, sense_forward
from tests.data.qmri.toy_head import ACQUISITION, FIELD, TEMPLATE

KEY = (1, 4)
FULL = ACQUISITION._replace(mask="full", snr=(np.inf, np.inf))
adjoint, forward = jax.jit(sense_adjoint), jax.jit(sense_forward)


@pytest.fixture(scope="module")
def brain():
    subject = draw_subject(
        TEMPLATE, seed=KEY[0], number=KEY[1], lesion_share=1.0, time_spread=0.0
    )
    return render_slice(TEMPLATE, subject, 4.0, size=48, field=FIELD)


def measure(brain, acquisition=ACQUISITION, draw=(0, 0), key=KEY, acceleration=4.0):
    return acquire(
        brain,
        acquisition,
        key=key,
        z=4.0,
        field=FIELD,
        draw=draw,
        acceleration=acceleration,
    )


def random_case(rng, height, width):
    def draw(*shape):
        parts = rng.normal(size=(2, *shape))
        return (parts[0] + 1j * parts[1]).astype(np.complex64)

    return draw(3, height, width), draw(2, height, width)


def test_protocols():
    assert make_protocol("t2") == ("t2", T2_TIMES)
    contrast, times = make_protocol("t1")
    assert contrast == "t1" and times == T1_TIMES and len(times) == 8
    np.testing.assert_allclose(times[0], 0.05)
    np.testing.assert_allclose(times[-1], 4.0)
    np.testing.assert_allclose(np.diff(np.log(times)), np.log(80) / 7)
    assert make_protocol("t2", (0, 0.1)).times == (0.0, 0.1)


@pytest.mark.parametrize(
    ("contrast", "times", "message"),
    [
        ("t3", None, "'t3'"),
        ("t2", (0.1,), "at least two"),
        ("t2", ((0.1, 0.2),), "at least two"),
        ("t2", (0.0, 25.0, 125.0), "divide by 1000"),
        ("t2", (-0.1, 0.2), "none negative"),
        ("t2", (0.1, np.nan), "finite"),
        ("t2", (0.1, 0.1), "each once"),
    ],
)
def test_refuses_protocols(contrast, times, message):
    with pytest.raises(ValueError, match=message):
        make_protocol(contrast, times)


def test_images_are_scaled_and_ordered(brain):
    t2 = signals(brain, make_protocol("t2"))
    assert np.abs(t2).max() == 1 and t2.min() >= 0
    assert (np.diff(t2, axis=0) <= 0).all()  # decays
    csf, wm = brain.mixture.fractions[2] > 0.9, brain.mixture.fractions[1] > 0.95
    assert t2[-1][csf].min() > 3 * t2[-1][wm].max()  # fluid is bright at late TE
    t1 = signals(brain, make_protocol("t1"))
    assert np.abs(t1).max() == 1 and t1[0][brain.roi].max() < 0
    assert t1[-1][wm].min() > 0.3 and t1[4][csf].max() < t1[4][wm].min()


@pytest.mark.parametrize(("height", "width"), [(12, 16), (11, 13)])
@pytest.mark.parametrize("lines", [True, False])
def test_kspace_is_what_the_operator_gives(height, width, lines):
    rng = np.random.default_rng(0)
    images, sens = random_case(rng, height, width)
    mask = rng.random((3, 1 if lines else height, width)) < 0.4
    mask[0] = False  # a contrast without samples
    found = sample_kspace(images, sens, mask, 0.0, rng)
    expected = np.asarray(forward(images, sens, mask))
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, expected, atol=2e-6)  # float32
    shown = np.broadcast_to(mask[:, None], found.shape)
    assert not found[~shown].any()


def test_full_noiseless_kspace_gives_the_target_back(brain):
    one = measure(brain, FULL)
    assert one.mask.shape == (4, 1, 48) and one.mask.all() and one.noise == 0
    images = np.asarray(adjoint(one.kspace, one.sens, one.mask))
    np.testing.assert_allclose(images, one.target, atol=3e-6)  # float32


@pytest.mark.parametrize("kind", ["random", "poisson"])
def test_noise_is_white_and_as_strong_as_it_says(brain, kind):
    """Real and imaginary part of every coil, and of the combined full image."""
    noisy = ACQUISITION._replace(mask=kind, snr=(25.0, 25.0))
    quiet = noisy._replace(snr=(np.inf, np.inf))
    draws = [(measure(brain, noisy, (0, d)), measure(brain, quiet, (0, d)))
             for d in range(6)]  # fmt: skip
    level = np.abs(draws[0][0].target).max(axis=0)[brain.roi].mean()
    noise = []
    for a, b in draws:
        assert a.noise == pytest.approx(level / 25, rel=1e-6)
        np.testing.assert_array_equal(a.mask, b.mask)
        shown = np.broadcast_to(a.mask[:, None], a.kspace.shape)
        difference = a.kspace - b.kspace
        assert not difference[~shown].any()
        noise.append(difference[shown].reshape(3, -1))
    noise = np.concatenate(noise, axis=1) / draws[0][0].noise
    for part in (noise.real, noise.imag):
        assert abs(part.std() - 1) < 0.02 and abs(part.mean()) < 0.02
    cross = (noise.real * noise.imag).mean()
    assert abs(cross) < 0.03
    full = measure(brain, noisy._replace(mask="full"))
    error = np.asarray(adjoint(full.kspace, full.sens, full.mask)) - full.target
    assert error.real.std() == pytest.approx(full.noise, rel=0.03)
    assert error.imag.std() == pytest.approx(full.noise, rel=0.03)


def test_masks_are_the_library_s_and_differ_between_contrasts(brain):
    one = measure(brain)
    assert one.mask.shape == (4, 1, 48)
    np.testing.assert_array_equal(one.mask.sum(axis=-1), 12)
    assert len({row.tobytes() for row in one.mask}) == 4
    like = undersampling_mask(
        "random", seed=0, contrasts=4, size=(48, 48), acceleration=4.0,
        center_fraction=0.125,
    )  # fmt: skip
    shared = like.all(axis=0) & one.mask.all(axis=0)
    assert shared[0, 22:27].all()  # the centre block


def test_what_belongs_to_the_subject_and_what_to_the_draw(brain):
    first, again, other = measure(brain), measure(brain), measure(brain, draw=(0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first.sens, other.sens)
    assert first.snr == other.snr
    assert not np.array_equal(first.mask, other.mask)
    stranger = measure(brain, key=(1, 5))
    assert stranger.snr != first.snr
    assert not np.array_equal(stranger.sens, first.sens)
    low = measure(brain, acceleration=2.0)
    assert low.mask.sum() == 2 * first.mask.sum()


def test_phase_is_smooth_and_leaves_the_target(brain):
    plain, turned = measure(brain, FULL), measure(brain, FULL._replace(phase=1.0))
    np.testing.assert_array_equal(plain.target, turned.target)
    images = np.asarray(adjoint(turned.kspace, turned.sens, turned.mask))
    np.testing.assert_allclose(np.abs(images), plain.target, atol=3e-6)
    inside = brain.roi & np.roll(brain.roi, 1, axis=0)
    step = np.angle(images[0] * np.conj(np.roll(images[0], 1, axis=0)))[inside]
    angle = np.angle(images[0][brain.roi])
    assert np.abs(step).max() < 0.5 and angle.std() > 0.2


def test_snr_is_spread_over_its_limits():
    drawn = [subject_snr((0, n), (20.0, 60.0)) for n in range(300)]
    assert 20 < min(drawn) < 23 and 57 < max(drawn) < 60
    assert subject_snr((0, 0), (np.inf, np.inf)) == np.inf
    for bad in ((0.0, 10.0), (30.0, 20.0), (np.nan, 1.0)):
        with pytest.raises(ValueError, match="snr="):
            subject_snr((0, 0), bad)


def test_bad_options_are_refused(brain):
    for change, message in (
        ({"mask": "radial"}, "'radial'"),
        ({"coils": 0}, "coils=0"),
        ({"snr": (-1.0, 5.0)}, "snr="),
    ):
        with pytest.raises(ValueError, match=message):
            measure(brain, ACQUISITION._replace(**change))
    with pytest.raises(ValueError, match="acceleration"):
        measure(brain, acceleration=40.0)
    assert slice_height(TEMPLATE, 0) < 0

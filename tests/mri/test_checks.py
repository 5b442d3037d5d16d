"""Every kind of bad acquisition is refused by one message; good ones pass."""

import numpy as np
import pytest

from medjax.mri.checks import check_acquisition, sampled_points
from medjax.mri.sense import sense_forward

E, C, H, W = 3, 4, 16, 20


def acquisition(lead=(), lines=True):
    rng = np.random.default_rng(0)
    grid = np.hypot(*np.meshgrid(np.arange(W) - W / 2, np.arange(H) - H / 2))
    images = np.exp(-((grid / 5) ** 2)) * (1 + rng.random((*lead, E, 1, 1)))
    noise = rng.standard_normal((2, *lead, C, H, W))
    sens = 1 + 0.2 * (noise[0] + 1j * noise[1])
    sens = sens / np.linalg.norm(sens, axis=-3, keepdims=True)
    mask = rng.random((*lead, E, 1 if lines else H, W)) < 0.5
    mask[..., W // 2 - 2 : W // 2 + 2] = True
    return np.array(sense_forward(images, sens, mask)), mask, sens


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("lines", [True, False])
def test_good_data_pass_and_imply_their_mask(lead, lines):
    kspace, mask, sens = acquisition(lead, lines)
    check_acquisition(kspace, sens, mask)
    check_acquisition(kspace.astype("complex64"), mask=mask.astype("uint8"))
    np.testing.assert_array_equal(sampled_points(kspace), mask)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_unit_does_not_matter(scale):
    kspace, mask, _ = acquisition()
    check_acquisition((scale * kspace).astype("complex64"), mask=mask)


def test_outside_the_object_sensitivities_may_be_zero():
    kspace, mask, sens = acquisition()
    sens[:, :3] = 0
    check_acquisition(kspace, sens, mask)


def swapped(k, m, s):
    return k.swapaxes(0, 1), None, s


def per_coil(k, m, s):
    m = np.repeat(m[:, None], C, 1) * np.ones((1, 1, H, 1), bool)
    return k, m, s


def other_per_coil(k, m, s):
    k, m, s = per_coil(k, m, s)
    m[0, 1, 0, 0] ^= True
    return k, m, s


def with_value(name, index, value):
    def spoil(k, m, s):
        arrays = {"k": k, "m": m, "s": s}
        arrays[name][index] = value
        return tuple(arrays.values())

    return spoil


BAD = {
    "three axes": (
        lambda k, m, s: (k[0], m, s),
        r"kspace: .* \(4, 16, 20\).* is E = 1",
    ),
    "no coils": (lambda k, m, s: (k[:, :0], m, None), r"found \(3, 0, 16, 20\)"),
    "magnitude": (
        lambda k, m, s: (abs(k), m, s),
        "kspace: expected complex .* found float64",
    ),
    "coils first": (swapped, r"looks like \[.., C, E, H, W\]: swap"),
    "coil count": (
        lambda k, m, s: (k, m, s[:2]),
        r"sens: expected .* C = 4 .* found complex128 of shape \(2, 16, 20\)$",
    ),
    "rows and columns": (lambda k, m, s: (k, m, s.swapaxes(1, 2)), "are swapped"),
    "coils last": (lambda k, m, s: (k, m, np.moveaxis(s, 0, 2)), "in another order"),
    "mask size": (
        lambda k, m, s: (k, m[..., :-1], s),
        r"mask: .*W = 20 .* found .* \(3, 1, 19\)",
    ),
    "mask contrasts": (
        lambda k, m, s: (k, m[0], s),
        r"mask: .*E = 3 .* found .* \(1, 20\)",
    ),
    "mask a coil": (per_coil, r"pass mask\[..., 0, :, :\]"),
    "mask differs": (other_per_coil, "the mask differs between coils"),
    "weights": (
        lambda k, m, s: (k, m * 0.5, s),
        r"mask: expected bool or int .* found float64 .*; weights are no mask",
    ),
    "two": (lambda k, m, s: (k, m * 2, s), r"mask: expected 0 and 1, found \[0, 2\]"),
    "exchanged": (lambda k, m, s: (k, s, m), "order is kspace, sens, mask"),
    "mask for sens": (lambda k, m, s: (k, None, m), "order is kspace, sens, mask"),
    "sens for mask": (lambda k, m, s: (k, s, None), "order is kspace, sens, mask"),
    "nan": (
        with_value("k", (1, 2, 3, 4), np.nan),
        r"NaN or Inf at 1 of 3840 points, the first at \(1, 2, 3, 4\)",
    ),
    "inf": (with_value("k", (0, 0, 0, 0), np.inf), "k-space holds NaN or Inf"),
    "all zero": (lambda k, m, s: (0 * k, m, s), "k-space is 0 everywhere"),
    "dead coil": (with_value("k", (slice(None), 3), 0), "coil 3 is 0 everywhere"),
    "empty contrast": (with_value("k", 1, 0), "contrast 1 has no samples"),
    "empty mask": (with_value("m", 2, False), "contrast 2 has no samples"),
    "coils differ": (
        with_value("k", (1, 2, slice(None), 10), 0),
        "differs between coils: coil 2 of contrast 1 has",
    ),
    "mask shifted": (
        lambda k, m, s: (k, np.fft.fftshift(m, -1), s),
        "marks .* as sampled where k-space is 0 .* not centred",
    ),
    "not centred": (
        lambda k, m, s: (np.fft.ifftshift(k, (-2, -1)), None, s),
        r"stands at \(0, 0\), expected near its centre \(8, 10\)",
    ),
    "sens nan": (with_value("s", (0, 0, 0), np.nan), "sens holds NaN"),
    "sens zero": (lambda k, m, s: (k, m, 0 * s), "sens is 0 everywhere: estimate"),
    "sens scale": (lambda k, m, s: (k, m, 2 * s), "found 4 to 4: normalize_sens"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_by_name(name):
    spoil, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        kspace, mask, sens = spoil(*acquisition())
        check_acquisition(kspace, sens, mask)


def test_a_batch_names_the_slice_too():
    kspace, mask, sens = acquisition((2,))
    mask[1, 0] = False
    with pytest.raises(ValueError, match=r"contrast \(1, 0\) has no samples"):
        check_acquisition(kspace, sens, mask)


def test_single_zeros_among_measured_values_are_no_mask():
    kspace, mask, _ = acquisition()
    column = np.flatnonzero(mask[1, 0])[2]
    kspace[1, 0, 5, column] = 0
    np.testing.assert_array_equal(sampled_points(kspace), mask)


@pytest.mark.parametrize(
    ("kspace", "message"),
    [
        (np.ones((4, 5, 6), complex), r"kspace: expected complex of shape \[\*B, E"),
        (np.ones((1, 4, 5, 6)), "kspace: expected complex .* found float64"),
        (
            np.ones((0, 4, 5, 6), complex),
            r"kspace: expected no empty axis, found \(0, 4, 5, 6\)",
        ),
        (
            np.ones((1, 0, 5, 6), complex),
            r"kspace: expected no empty axis, found \(1, 0, 5, 6\)",
        ),
        (
            np.ones((1, 4, 0, 6), complex),
            r"kspace: expected no empty axis, found \(1, 4, 0, 6\)",
        ),
    ],
)
def test_what_implies_no_mask(kspace, message):
    with pytest.raises(ValueError, match=f"sampled_points: {message}"):
        sampled_points(kspace)


def test_one_coil_and_one_pixel_are_an_acquisition():
    one = np.ones((1, 1, 1, 1), complex)
    check_acquisition(one, one[0], one.real[0].astype(bool))
    np.testing.assert_array_equal(sampled_points(one), np.ones((1, 1, 1), bool))


def test_k_space_outside_the_mask_is_not_looked_at():
    kspace, mask, sens = acquisition()
    check_acquisition(np.where(mask[:, None], kspace, 1e-6), sens, mask)

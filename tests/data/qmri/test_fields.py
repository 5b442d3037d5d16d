import numpy as np
import pytest
from scipy.interpolate import BSpline

from medjax.data.qmri.fields import REACH, smooth_field

AXIS = np.linspace(-100, 100, 24)


def field(key=(1, 2), z=3.0, y=AXIS, x=AXIS, spacing=20.0, channels=2):
    return smooth_field(key, z, y, x, spacing=spacing, channels=channels)


def test_equals_a_sum_over_all_knots():
    """Cubic B-splines from SciPy over white noise, every knot in turn."""
    spacing, (z, y, x) = 50.0, (12.0, -31.0, 77.0)
    half = int(np.ceil(REACH / spacing)) + 2
    basis = BSpline.basis_element(np.arange(-2, 3))

    def weight(position, knot):
        t = position / spacing + half - knot
        return float(basis(t)) if abs(t) < 2 else 0.0

    count, total = 2 * half + 1, 0.0
    for k in range(count):
        plane = np.random.default_rng((5, k)).standard_normal(
            (1, count, count), np.float32
        )[0]
        for i in range(count):
            for j in range(count):
                weights = weight(z, k) * weight(y, i) * weight(x, j)
                total += weights * plane[i, j]
    total /= (151 / 315) ** 1.5
    found = field((5,), z, np.array([y]), np.array([x]), spacing, 1)
    np.testing.assert_allclose(found, [[[total]]], rtol=2e-5)  # float32


def test_a_point_is_the_same_in_every_grid():
    whole = field()
    part = field(y=AXIS[5:9], x=AXIS[::3])
    np.testing.assert_array_equal(part, whole[:, 5:9, ::3])


def test_keys_and_channels_are_independent():
    many = np.stack([field((7, key)) for key in range(200)])  # [200, 2, H, W]
    spread = many.std(axis=0)
    assert abs(float(many.mean())) < 0.02
    assert 0.95 < float(np.sqrt((spread**2).mean())) < 1.05
    a, b = many[:, 0].ravel(), many[:, 1].ravel()
    assert abs(float(np.corrcoef(a, b)[0, 1])) < 0.05


def test_neighbours_are_alike_and_far_points_are_not():
    many = np.stack([field((8, key), y=np.array([0.0]), x=np.array([0, 2.0, 90]))
                     for key in range(400)])[:, 0, 0]  # fmt: skip
    near, far = (np.corrcoef(many[:, 0], many[:, i])[0, 1] for i in (1, 2))
    assert near > 0.98 and abs(far) < 0.15
    above = np.stack([field((8, key), 5.0, np.array([0.0]), np.array([0.0]))
                      for key in range(400)])[:, 0, 0, 0]  # fmt: skip
    assert np.corrcoef(many[:, 0], above)[0, 1] > 0.97  # 2 mm higher


def test_refuses_what_lies_outside():
    with pytest.raises(ValueError, match="200.0 mm"):
        field(x=np.array([0.0, 200.0]))
    field(z=-REACH, y=np.array([REACH]), x=np.array([-REACH]))

import numpy as np
import pytest

from medjax.data.qmri.coils import RADIUS, coil_maps, loop_field

AXIS = np.linspace(105, -105, 40)


def maps(seed=0, z=0.0, coils=8, y=AXIS, x=AXIS):
    return coil_maps(np.random.default_rng(seed), z, y, x, coils=coils)


@pytest.mark.parametrize("coils", [1, 4, 8, 12])
def test_are_normalised(coils):
    sens = maps(coils=coils)
    assert sens.shape == (coils, 40, 40) and sens.dtype == np.complex64
    power = (np.abs(sens) ** 2).sum(axis=0)
    np.testing.assert_allclose(power, 1, rtol=1e-5)  # float32


def test_field_is_the_curl_of_its_potential():
    """By differences in float64 of n x d / (|d|^2 + a^2)^(3/2)."""
    rng = np.random.default_rng(0)
    size, h = 55.0, 1e-2

    def potential(d, n):
        return np.cross(n, d) / (d @ d + size**2) ** 1.5

    for _ in range(10):
        d, angle = rng.uniform(-90, 90, 3), rng.uniform(0, 2 * np.pi)
        n = np.array([np.cos(angle), np.sin(angle), 0])
        slope = np.stack(
            [
                (potential(d + h * e, n) - potential(d - h * e, n)) / (2 * h)
                for e in np.eye(3)
            ]
        )  # [derivative along, component]
        bx = slope[1, 2] - slope[2, 1]
        by = slope[2, 0] - slope[0, 2]
        found = loop_field(*d, n[0], n[1], size=size)
        assert found == pytest.approx(bx - 1j * by, rel=1e-5)


def test_field_on_the_axis_is_a_circular_loop_s():
    """Biot-Savart over 1000 segments of a ring in the plane across x."""
    size = 40.0
    turn = np.arange(1000) * 2 * np.pi / 1000
    ring = size * np.stack([0 * turn, np.cos(turn), np.sin(turn)], axis=-1)
    along = np.stack([0 * turn, -np.sin(turn), np.cos(turn)], axis=-1)
    ratio = []
    for x in (0.0, 20.0, 60.0, 150.0):
        away = np.array([x, 0, 0]) - ring
        field = np.cross(along, away) / np.linalg.norm(away, axis=1, keepdims=True) ** 3
        zero, one = np.zeros(()), np.ones(())
        ours = loop_field(np.array(x), zero, zero, one, zero, size=size)
        ratio.append(field.sum(axis=0)[0] / ours.real)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def test_same_coils_in_every_plane():
    first = maps()
    np.testing.assert_array_equal(first, maps())
    assert np.abs(first - maps(z=0.5)).max() < 0.05
    assert np.abs(first - maps(z=40.0)).max() > 0.2
    assert np.abs(first - maps(seed=1)).max() > 0.5


def test_are_smooth_and_strongest_near_their_coil():
    y, x = np.meshgrid(AXIS, AXIS, indexing="ij")
    head = np.hypot(x / 75, y / 95) < 1
    sens = maps()
    for coil in sens:
        steps = np.abs(np.diff(coil, axis=0))[head[1:]]
        assert steps.max() < 0.15  # of a maximum of about 1, over 5.4 mm
        angle = np.arctan2(y.flat[np.abs(coil * head).argmax()],
                           x.flat[np.abs(coil * head).argmax()])  # fmt: skip
        toward = np.array([np.cos(angle), np.sin(angle)]) * RADIUS
        near = np.hypot(x - toward[0], y - toward[1]) < RADIUS - 20
        assert np.abs(coil)[head & near].mean() > 2 * np.abs(coil)[head & ~near].mean()
    order = np.angle(np.vdot(sens[0], sens[1]))
    assert np.isfinite(order)


def test_refuses_no_coils():
    with pytest.raises(ValueError, match="coils=0"):
        maps(coils=0)

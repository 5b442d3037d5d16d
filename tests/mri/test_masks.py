"""Masks: the authors' facts, exact counts, distances, and what cannot be drawn."""

import numpy as np
import pytest

from medjax.mri.masks import calibration_size, undersampling_mask

PUQ = {"contrasts": 8, "size": (160, 160), "acceleration": 6, "center_fraction": 0.08}


def draw(kind, seed=0, **options):
    return undersampling_mask(kind, seed=seed, **(PUQ | options))


def test_the_authors_mask_of_the_in_vivo_slice(shared):
    with np.load(shared / "data" / "invivo_t2_slice.npz") as slices:
        seed = int(slices["seed"])
    mask = draw("random", seed)
    assert mask.shape == (8, 1, 160) and mask.dtype == bool
    assert mask.sum(-1).tolist() == [[26]] * 8
    assert mask.any(0).sum() == 89
    assert mask[:, 0, 74:87].all()


def test_the_authors_rule_line_by_line():
    """Their seeds are the first of contrasts * coils draws: the coils do not matter."""
    seeds = np.random.default_rng(7).choice(0xFFFFFF, 8 * 12)
    rest = [*range(74), *range(87, 160)]
    for mask, seed in zip(draw("random", 7), seeds, strict=False):
        lines = np.random.default_rng(seed).choice(rest, size=13, replace=False)
        expected = sorted([*range(74, 87), *lines])
        assert np.flatnonzero(mask[0]).tolist() == expected


@pytest.mark.parametrize("kind", ["random", "equispaced", "poisson"])
@pytest.mark.parametrize("size", [(33, 47), (24, 40)])
def test_exact_count_full_centre_and_another_mask_a_contrast(kind, size):
    options = {"size": size, "acceleration": 4.5, "contrasts": 3}
    mask = draw(kind, seed=3, center_fraction=0.12, **options)
    points = size[0] * size[1] if kind == "poisson" else size[1]
    assert mask.shape == (3, size[0] if kind == "poisson" else 1, size[1])
    assert mask.sum((1, 2)).tolist() == [int(points / 4.5)] * 3
    assert mask[:, mask.shape[1] // 2, size[1] // 2].all()
    assert len({m.tobytes() for m in mask}) == 3
    np.testing.assert_array_equal(
        mask, draw(kind, seed=3, center_fraction=0.12, **options)
    )
    assert np.any(mask != draw(kind, seed=4, center_fraction=0.12, **options))


def test_equispaced_lines_are_equally_far_and_take_turns():
    mask = draw("equispaced", center_fraction=0.0, acceleration=8, contrasts=8)
    for m in mask:
        assert set(np.diff(np.flatnonzero(m[0]))) == {8}
    assert mask.any(0).all()


def test_poisson_points_keep_their_distance_and_thin_out():
    options = {"size": (64, 64), "acceleration": 8, "contrasts": 2}
    mask = draw("poisson", center_fraction=0.1, **options)
    grid = np.hypot(*np.meshgrid(np.arange(64) - 32, np.arange(64) - 32))
    inner, outer = (grid > 5) & (grid < 12), grid > 22
    for m in mask:
        assert m[inner].mean() > 3 * m[outer].mean()
        points = np.argwhere(m & (grid > 16)) - 32
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
        np.fill_diagonal(gaps, np.inf)
        assert gaps.min() >= 2  # uniform points this dense would touch
    assert mask.any(0).sum() > 1.5 * mask[0].sum()


def test_no_acceleration_samples_everything():
    for kind in ("random", "equispaced"):
        assert draw(kind, acceleration=1, contrasts=2).all()
    assert draw("poisson", acceleration=1, contrasts=1, size=(8, 9)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "radial"}, "kind: expected .* found 'radial'"),
        ({"acceleration": 20}, "leaves 8 of 160 samples a contrast, 13 of them"),
        ({"acceleration": 200, "center_fraction": 0.0}, "leaves 0 of 160"),
        ({"acceleration": 0.5}, "acceleration: .* at least 1, found 0.5"),
        ({"acceleration": np.nan}, "acceleration: .* found nan"),
        ({"acceleration": np.inf}, "acceleration: .* finite .* found inf"),
        ({"center_fraction": 8.0}, "center_fraction: expected 0 to 1, found 8.0"),
        ({"center_fraction": np.nan}, "center_fraction: .* found nan"),
        ({"seed": -1}, "seed: expected an integer of at least 0, found -1"),
        ({"contrasts": 0}, "contrasts: expected an integer of at least 1, found 0"),
        ({"size": (0, 8)}, "size: expected an integer of at least 1, found 0"),
        ({"size": (8, 0)}, "size: expected an integer of at least 1, found 0"),
        ({"kind": "poisson", "acceleration": 200}, "lower acceleration"),
    ],
)
def test_bad_options(options, message):
    options = {"kind": "random", "seed": 0} | options
    kind, seed = options.pop("kind"), options.pop("seed")
    with pytest.raises(ValueError, match=message):
        draw(kind, seed, **options)


@pytest.mark.parametrize("kind", ["random", "equispaced", "poisson"])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_one_point_is_sampled_whole(kind, fraction):
    options = {"size": (1, 1), "contrasts": 1, "acceleration": 1}
    assert draw(kind, center_fraction=fraction, **options).tolist() == [[[True]]]


@pytest.mark.parametrize("kind", ["random", "poisson"])
def test_the_first_of_more_contrasts_are_the_same(kind):
    options = {"size": (24, 40), "acceleration": 4, "center_fraction": 0.1}
    few, more = (draw(kind, contrasts=n, **options) for n in (2, 3))
    np.testing.assert_array_equal(few, more[:2])


def test_calibration_size_is_the_block_all_contrasts_share():
    mask = draw("random", 50292)
    # 13 columns from 74 on: 12 or 13 around column 80, more where chance adds some.
    assert calibration_size(mask, size=(160, 160), limit=24) == (24, 13)
    block = np.zeros((2, 20, 30), bool)
    block[:, 7:13, 10:20] = True
    block[1, :, 11] = False
    assert calibration_size(block, size=(20, 30), limit=24) == (6, 7)
    assert calibration_size(block, size=(20, 30), limit=4) == (4, 4)
    whole = np.ones((3, 1, 1), bool)
    assert calibration_size(whole, size=(8, 9), limit=24) == (8, 9)


def test_calibration_needs_a_limit_that_is_a_number():
    with pytest.raises(ValueError, match="calibration_size: limit: .* found nan"):
        calibration_size(np.ones((1, 4, 4), bool), size=(4, 4), limit=float("nan"))


def test_calibration_needs_the_centre():
    with pytest.raises(ValueError, match="centre of k-space is not sampled"):
        calibration_size(np.arange(8)[None, None] > 4, size=(8, 8), limit=24)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((2, 1, 8), 0.5), "mask: expected bool or int .* found float64"),
        (np.ones((0, 1, 8), bool), r"E of at least 1 .* found \(0, 1, 8\)"),
        (np.ones((2, 4, 8), bool), r"H, W = \(6, 8\), found \(2, 4, 8\)"),
        (np.ones((2, 6, 7), bool), r"H, W = \(6, 8\), found \(2, 6, 7\)"),
        (np.ones((6, 8), bool), r"found bool of shape \(6, 8\)"),
    ],
)
def test_calibration_refuses_other_masks(mask, message):
    with pytest.raises(ValueError, match=message):
        calibration_size(mask, size=(6, 8), limit=4)


def test_calibration_of_one_point_and_below_a_limit_of_one():
    assert calibration_size(np.ones((1, 1, 1), int), size=(1, 1), limit=9) == (1, 1)
    assert calibration_size(np.ones((1, 1, 9), bool), size=(8, 9), limit=0) == (1, 1)

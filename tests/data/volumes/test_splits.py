"""Blocks of slices: who is trained on, who is tested, and the gaps between."""

import numpy as np
import pytest

from medjax.data.volumes.atlas import PLANES
from medjax.data.volumes.splits import split_slices


def test_blocks_and_gaps():
    part = split_slices(np.arange(64))
    assert part.tolist() == (
        [0] * 22 + [-1] * 2  # two before the test block
        + [-1] * 2 + [1] * 4 + [-1] * 2
        + [-1] * 2 + [0] * 20 + [-1] * 2
        + [-1] * 2 + [1] * 4 + [-1] * 2
    )  # fmt: skip


def test_the_validation_part_leaves_the_test_alone():
    part = split_slices(np.arange(64), tested="val")
    quarter = [0] * 6 + [-1] * 4 + [1] * 4 + [-1] * 4 + [0] * 4 + [-1] * 2 + [-1] * 8
    assert part.tolist() == quarter + [-1] * 2 + [0] * 4 + quarter[6:]
    final = split_slices(np.arange(64))
    assert not np.any((part >= 0) & (final == 1))
    assert np.all(final[part >= 0] == 0)  # what was trained or chosen on is trained on
    with pytest.raises(ValueError, match="tested='all': expected one of"):
        split_slices(np.arange(64), tested="all")


@pytest.mark.parametrize("tested", ["test", "val"])
def test_train_and_test_are_at_least_five_slices_apart(tested):
    positions = np.arange(233)
    part = split_slices(positions, tested=tested)
    train, test = positions[part == 0], positions[part == 1]
    assert np.abs(train[:, None] - test).min() == 5


@pytest.mark.network
@pytest.mark.parametrize("plane", PLANES)
def test_real_split_sizes(real_atlas, plane):
    part = split_slices(real_atlas.position)
    mine = real_atlas.plane == PLANES.index(plane)
    assert 0.55 < (part[mine] == 0).mean() < 0.7
    assert 0.09 < (part[mine] == 1).mean() < 0.15

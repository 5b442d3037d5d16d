"""The nearest sizes are the fewest doublings away, and multiply to the devices."""

import itertools

import numpy as np
import pytest

from medjax.planning.meshes import nearest_sizes


def always(sizes):
    return True


@pytest.mark.parametrize("count", [1, 6, 8, 16, 60])
@pytest.mark.parametrize("wanted", [(1, 3, 2), (4, 4, 4), (1, 16, 1), (7, 1, 5)])
def test_no_other_sizes_are_nearer(count, wanted):
    names = ("data", "fsdp", "model")
    found = nearest_sizes(dict(zip(names, wanted, strict=True)), count, always)

    def far(sizes):
        return float(np.abs(np.log(np.array(sizes) / np.array(wanted))).sum())

    every = itertools.product(range(1, count + 1), repeat=3)
    best = min(far(sizes) for sizes in every if np.prod(sizes) == count)
    assert np.prod(list(found.values())) == count
    # rounded to nine digits, so that equals are equals
    assert far(list(found.values())) == pytest.approx(best, abs=1e-8)


def test_what_fits_stays_and_what_does_not_work_is_passed_over():
    wanted = {"data": 1, "fsdp": 4, "model": 4}
    assert nearest_sizes(wanted, 16, always) == wanted
    # of equally near ones that which keeps the first axes
    found = nearest_sizes(wanted, 16, lambda sizes: sizes["model"] <= 2)
    assert found == {"data": 1, "fsdp": 8, "model": 2}
    assert nearest_sizes(wanted, 16, lambda sizes: False) is None


def test_an_axis_of_the_rest_takes_what_is_left():
    assert nearest_sizes({"data": -1, "model": 3}, 8, always) == {"data": 2, "model": 4}

import numpy as np
import pytest

from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.boxes.views import labelled_views, loosen_box


def test_loosened_box_is_cut_at_the_image():
    rng = np.random.default_rng(0)
    box = np.array([0.0, 0, 10, 70])
    for _ in range(20):
        loose = loosen_box(box, (70, 60), rng, factors=(1.5, 3.0))
        assert loose.min() >= 0 and loose[2] <= 60 and loose[3] <= 70
        assert loose[3] - loose[1] == 70


def test_labelled_views_are_some_of_them_in_their_order():
    views = synthetic_views(count=20, size=(64, 64), part="train", num_phrasings=1)
    few = labelled_views(views, 7, seed=3)
    every = [views.view(n, np.random.default_rng(5)).origin for n in range(20)]
    found = [few.view(n, np.random.default_rng(5)).origin for n in range(few.count)]
    assert len(set(found)) == 7
    assert [every.index(x) for x in found] == sorted(every.index(x) for x in found)
    again = labelled_views(views, 7, seed=4)
    other = [again.view(n, np.random.default_rng(5)).origin for n in range(7)]
    assert other != found
    whole = labelled_views(views, 20, seed=3)
    assert [whole.view(n, np.random.default_rng(5)).origin for n in range(20)] == every


@pytest.mark.parametrize("count", [-1, 0, 21])
def test_more_labelled_views_than_there_are_are_refused(count):
    views = synthetic_views(count=20, size=(64, 64), part="train", num_phrasings=1)
    with pytest.raises(ValueError, match=f"data.labelled={count}: expected 1 to 20"):
        labelled_views(views, count, seed=0)

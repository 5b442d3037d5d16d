import numpy as np
import pytest

from medjax.data.orders import choose, drawn_places, evaluation_order, rows_of


@pytest.mark.parametrize("count", [1, 3, 7])
def test_choose_repeats_only_when_it_must(count):
    chosen = choose(count, 5, np.random.default_rng(0))
    assert len(chosen) == 5 and set(chosen) <= set(range(count))
    assert len(set(chosen)) == min(count, 5)


def test_rows_of_asks_each_once():
    rows = list(rows_of(5, 2, None))
    assert rows == [([0, 1], 2), ([2, 3], 2), ([4, 4], 1)]
    assert list(rows_of(5, 2, 3)) == [([0, 1], 2), ([2, 2], 1)]
    assert list(rows_of(5, 2, 0)) == []


def test_evaluation_order_is_shuffled_only_under_a_limit():
    assert evaluation_order(5, seed=0, limit=None).tolist() == [0, 1, 2, 3, 4]
    some = evaluation_order(50, seed=1, limit=3)
    assert sorted(some.tolist()) == list(range(50)) and some[0] != 0
    assert np.array_equal(some, evaluation_order(50, seed=1, limit=9))


def test_labelled_pictures_are_drawn_by_the_seed():
    """Each picture as often as the others, in order, and none twice."""
    counts = np.zeros(12, int)
    for seed in range(600):
        places = drawn_places(12, 5, seed=seed)
        assert places.tolist() == sorted(set(places.tolist())) and len(places) == 5
        counts[places] += 1
    # 600 * 5 / 12 = 250; four deviations of sqrt(600 * 5/12 * 7/12) = 12
    assert abs(counts - 250).max() < 48
    again = drawn_places(12, 5, seed=0)
    np.testing.assert_array_equal(again, drawn_places(12, 5, seed=0))
    assert drawn_places(3, 3, seed=7).tolist() == [0, 1, 2]


@pytest.mark.parametrize("chosen", [-1, 0, 13])
def test_no_more_are_labelled_than_there_are(chosen):
    with pytest.raises(ValueError, match=rf"labelled={chosen}: expected 1 to 12, the"):
        drawn_places(12, chosen, seed=0)

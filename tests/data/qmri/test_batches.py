import itertools

import jax
import numpy as np
import pytest

from medjax.data.qmri.batches import draw_slice, eval_batches, train_batches
from medjax.data.qmri.simulate import make_protocol
from medjax.types import QmriBatch
from tests.data.qmri.toy_head import ACQUISITION, POPULATION

SLICES = len(POPULATION.template.slices)


def stream(population=POPULATION, acquisition=ACQUISITION, **change):
    options = {
        "subjects": 3,
        "batch": 2,
        "seed": 5,
        "process_index": 0,
        "process_count": 1,
        **change,
    }
    return iter(train_batches(population, acquisition, **options))


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def evaluation(population=POPULATION, acquisition=ACQUISITION, **change):
    options = {"part": "test", "subjects": 2, "batch": 3, "seed": 5, **change}
    return list(eval_batches(population, acquisition, **options))


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def rows_by_id(batches):
    return {
        int(batch.sample_id[b]): QmriBatch(*(array[b] for array in batch))
        for batch in batches
        for b in range(len(batch.valid))
    }


def test_shapes_and_types():
    first, second = take(stream(), 2)
    kinds = jax.tree.map(lambda x: (x.shape, x.dtype.name), first)
    assert kinds == jax.tree.map(lambda x: (x.shape, x.dtype.name), second)
    assert kinds == QmriBatch(
        kspace=((2, 4, 3, 32, 32), "complex64"),
        mask=((2, 4, 1, 32), "bool"),
        sens=((2, 3, 32, 32), "complex64"),
        target=((2, 4, 32, 32), "float32"),
        roi=((2, 32, 32), "bool"),
        valid=((2,), "bool"),
        sample_id=((2,), "int32"),
    )
    assert all(isinstance(x, np.ndarray) for x in first) and first.valid.all()
    np.testing.assert_array_equal(np.abs(first.target).max(axis=(1, 2, 3)), 1)
    power = (np.abs(first.sens) ** 2).sum(axis=1)
    np.testing.assert_allclose(power, 1, rtol=1e-5)  # float32
    hidden = ~np.broadcast_to(first.mask[:, :, None], first.kspace.shape)
    assert not first.kspace[hidden].any()


def test_same_seed_same_bytes():
    first, second = (take(stream(), 3) for _ in range(2))
    assert_equal(first, second)
    other = take(stream(seed=6), 3)
    assert not np.array_equal(first[0].kspace, other[0].kspace)
    strangers = take(stream(POPULATION._replace(seed=4)), 3)
    assert not np.array_equal(first[0].target, strangers[0].target)


def test_resumes_bitwise_at_any_position():
    whole = stream()
    take(whole, 3)
    state = whole.get_state()
    expected = take(whole, 3)
    resumed = stream()
    resumed.set_state(state)
    assert_equal(take(resumed, 3), expected)


def test_draws_do_not_depend_on_batch_or_hosts():
    whole = rows_by_id(take(stream(batch=4), 3))
    hosts = [
        rows_by_id(take(stream(process_index=i, process_count=2), 3)) for i in range(2)
    ]
    assert not set(hosts[0]) & set(hosts[1])
    assert_equal({**hosts[0], **hosts[1]}, whole)


def test_an_epoch_shows_every_slice_once_and_the_next_measures_it_anew():
    count = 3 * SLICES
    rows = take(stream(batch=1), 2 * count)
    ids = [int(row.sample_id[0]) for row in rows]
    assert ids == list(range(2 * count))
    epochs = [rows[:count], rows[count:]]
    pictures = [[row.target.tobytes() for row in epoch] for epoch in epochs]
    assert len(set(pictures[0])) == count and set(pictures[0]) == set(pictures[1])
    assert pictures[0] != pictures[1]  # in another order
    measured = {row.kspace.tobytes() for row in rows}
    assert len(measured) == 2 * count


def test_evaluation_shows_every_slice_once():
    batches = evaluation()
    assert [len(records) for _, records in batches] == [3, 3, 2]
    records = [record for _, part in batches for record in part]
    seen = {(record.subject, record.slice) for record in records}
    assert len(seen) == len(records) == 2 * SLICES
    for batch, part in batches:
        assert batch.kspace.shape[0] == 3 and batch.valid.sum() == len(part)
        rows = np.flatnonzero(batch.valid)
        assert batch.sample_id[rows].tolist() == [r.sample_id for r in part]
        for b, record in zip(rows, part, strict=True):
            assert record.fractions.shape == (3, 32, 32)
            assert record.fractions.dtype == np.float16
            total = record.fractions.astype(np.float32).sum(axis=0)
            assert total.max() < 1.002  # rounding of float16
            clear = np.abs(total - 0.5) > 0.002
            np.testing.assert_array_equal((total > 0.5)[clear], batch.roi[b][clear])
            assert (record.fractions[1][record.lesion] >= 0.499).all()
            assert record.sampled == batch.mask[b].mean() == 0.25
            assert record.contrast == "t2" and 20 < record.snr < 60
            level = batch.target[b].max(axis=0)[batch.roi[b]].mean()
            assert record.noise == pytest.approx(level / record.snr, rel=1e-5)
    assert any(record.lesion.any() for record in records)


def test_evaluation_is_fixed_and_its_batch_free():
    first, second = evaluation(), evaluation()
    assert_equal([b for b, _ in first], [b for b, _ in second])
    other = rows_by_id(b for b, _ in evaluation(batch=8))
    assert_equal(
        {i: r._replace(valid=True) for i, r in other.items()},
        {i: r._replace(valid=True) for i, r in rows_by_id(b for b, _ in first).items()},
    )
    few = evaluation(limit=4)
    assert [len(records) for _, records in few] == [3, 1]
    for batch, records in few:
        for b, record in enumerate(records):
            assert_equal(
                QmriBatch(*(array[b] for array in batch)), other[record.sample_id]
            )


def test_every_acceleration_is_evaluated():
    several = ACQUISITION._replace(accelerations=(2.0, 4.0))
    records = [r for _, part in evaluation(acquisition=several) for r in part]
    assert len(records) == 2 * 2 * SLICES
    shares = {(r.acceleration, r.sampled) for r in records}
    assert shares == {(2.0, 0.5), (4.0, 0.25)}
    counts = {
        int(n)
        for batch in take(stream(acquisition=several), 6)
        for n in batch.mask[:, 0].sum(axis=(1, 2))
    }
    assert counts == {8, 16}  # training draws them at random


def test_subjects_are_split_and_the_same_everywhere():
    trained = {row.target.tobytes() for row in take(stream(batch=1), 3 * SLICES)}
    tested = {
        batch.target[b].tobytes()
        for part in ("validation", "test")
        for batch, records in evaluation(part=part)
        for b in range(len(records))
    }
    assert len(tested) == 2 * 2 * SLICES and not trained & tested
    again = {
        batch.target[b].tobytes()
        for batch, records in evaluation(part="train", subjects=3, seed=99)
        for b in range(len(records))
    }
    assert again == trained


def test_inversion_recovery_is_signed():
    t1 = ACQUISITION._replace(protocol=make_protocol("t1", (0.05, 0.5, 4.0)))
    batch = take(stream(acquisition=t1), 1)[0]
    assert batch.target.shape[1] == 3
    assert batch.target.min() < -0.5 and batch.target.max() > 0.5
    np.testing.assert_array_equal(np.abs(batch.target).max(axis=(1, 2, 3)), 1)


def test_points_of_two_dimensions():
    points = ACQUISITION._replace(mask="poisson")
    drawn = draw_slice(
        POPULATION, points, number=0, position=1, draw=(0,), acceleration=4.0,
        sample_id=7,
    )  # fmt: skip
    assert drawn.row.mask.shape == (4, 32, 32) and drawn.row.sample_id == 7
    assert drawn.records[0].sampled == 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accelerations": ()}, "one or more"),
        ({"accelerations": (0.5,)}, "at least 1"),
        ({"protocol": ("t2", (0.0, 80.0))}, "divide by 1000"),
    ],
)
def test_bad_options_are_refused_before_a_worker_starts(change, message):
    with pytest.raises(ValueError, match=message):
        stream(acquisition=ACQUISITION._replace(**change))
    with pytest.raises(ValueError, match=message):
        evaluation(acquisition=ACQUISITION._replace(**change))


def test_bad_parts_are_refused():
    with pytest.raises(ValueError, match="0 subjects"):
        stream(subjects=0)
    with pytest.raises(ValueError, match="'dev'"):
        evaluation(part="dev")

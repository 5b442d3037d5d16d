import itertools

import jax
import numpy as np
import pytest

from medjax.data.boxes.batches import eval_batches, train_batches
from medjax.data.prompting.chat import answer_text
from medjax.rl.boxes import box_iou
from medjax.rl.text.box_text import parse_text
from tests.data.toy_atlas import GEOMETRY, LOOK, mr_views, structure_names


def stream(views, encoding, **change):
    options = {
        "batch": 2,
        "seed": 5,
        "loose": None,
        "process_index": 0,
        "process_count": 1,
        **change,
    }
    return iter(train_batches(views, encoding, **options))


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def rows_by_id(batches):
    """What a batch holds of each question, by its id."""
    found = {}
    for batch in batches:
        per_context = len(batch.boxes) // len(batch.prompt.context.tokens)
        for n, sample_id in enumerate(batch.sample_id.tolist()):
            b = n // per_context
            found[sample_id] = (
                batch.boxes[n],
                batch.answer[n][batch.answer_mask[n]],
                batch.prompt.question.tokens[n][batch.prompt.question.mask[n]],
                batch.prompt.images.patches[b],
            )
    return found


def test_shapes_and_types(train_views, encoding):
    first, second = take(stream(train_views, encoding), 2)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), first)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), second)
    assert first.boxes.shape == (6, 4) and first.boxes.dtype == np.float32
    assert first.sample_id.dtype == np.int32 and first.valid.all()
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(first))


def test_processes_that_have_parts_of_a_batch_have_one_shape(train_views, encoding):
    """One part of a batch may have contexts of fewer pictures than another."""
    (plain,) = take(stream(train_views, encoding), 1)
    context = encoding.buckets.context[0] + 40  # room for a second picture's tokens
    wide = encoding._replace(
        slots=2, buckets=encoding.buckets._replace(context=(context,))
    )
    (batch,) = take(stream(train_views, wide), 1)
    assert plain.prompt.images.patches.shape[:2] == (2, 1)
    assert batch.prompt.images.patches.shape[:2] == (2, 2)
    assert not batch.prompt.images.mask[:, 1].any()
    images = (plain.prompt.images, batch.prompt.images)
    for one, other in zip(*images, strict=True):
        np.testing.assert_array_equal(one[:, 0], other[:, 0])
    np.testing.assert_array_equal(batch.answer, plain.answer)


def test_answers_say_the_boxes(train_views, encoding):
    for batch in take(stream(train_views, encoding), 3):
        for box, answer, mask in zip(
            batch.boxes, batch.answer, batch.answer_mask, strict=True
        ):
            text = encoding.tokenizer.decode(answer[mask][:-1])
            parsed = parse_text(text)
            assert parsed.format
            np.testing.assert_array_equal(parsed.boxes, box)


def test_answers_say_the_reasons_of_their_structures(train_views, encoding):
    def view(index, rng):
        found = train_views.view(index, rng)
        return found._replace(reasons=tuple(f"seen: {name}" for name in found.names))

    room = encoding.buckets._replace(answer=(200,))
    told = encoding._replace(buckets=room, style=encoding.style._replace(answer="list"))
    for loose in (None, (1.1, 1.5)):
        batch, *_ = take(stream(train_views._replace(view=view), told, loose=loose), 1)
        for answer, mask in zip(batch.answer, batch.answer_mask, strict=True):
            text = encoding.tokenizer.decode(answer[mask][:-1])
            reason, _, rest = text.partition("</think>")
            name = reason.removeprefix("<think>seen: ")
            assert name in train_views.names and f'"label": "{name}"' in rest


def test_same_seed_same_batches(train_views, encoding):
    first, second = (take(stream(train_views, encoding), 3) for _ in range(2))
    assert_equal(first, second)
    other = take(stream(train_views, encoding, seed=6), 3)
    assert not np.array_equal(first[0].boxes, other[0].boxes)


def test_resumes_bitwise_at_any_position(train_views, encoding):
    whole = stream(train_views, encoding)
    take(whole, 3)
    state = whole.get_state()
    expected = take(whole, 3)
    resumed = stream(train_views, encoding)
    resumed.set_state(state)
    assert_equal(take(resumed, 3), expected)


def test_draws_do_not_depend_on_batch_or_hosts(train_views, encoding):
    """Hosts take disjoint draws that are together those of one host."""
    whole = rows_by_id(take(stream(train_views, encoding, batch=4), 3))
    hosts = [
        rows_by_id(
            take(stream(train_views, encoding, process_index=i, process_count=2), 3)
        )
        for i in range(2)
    ]
    assert not set(hosts[0]) & set(hosts[1])
    assert_equal({**hosts[0], **hosts[1]}, whole)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_have_the_batch_of_one_from_any_position(
    train_views, encoding, hosts
):
    """Rows in their order; a position that one host wrote is read by the others."""
    one = stream(train_views, encoding, batch=4)
    take(one, 2)
    state = one.get_state()
    expected = take(one, 2)
    parts = []
    for i in range(hosts):
        host = stream(
            train_views,
            encoding,
            batch=4 // hosts,
            process_index=i,
            process_count=hosts,
        )
        take(host, 2)
        assert host.get_state() == state
        host.set_state(state)
        parts.append(take(host, 2))
    for batch, *pieces in zip(expected, *parts, strict=True):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *pieces)
        assert_equal(joined, batch)


def test_ids_never_repeat_and_epochs_are_reshuffled(train_views, encoding):
    count = train_views.count
    batches = take(stream(train_views, encoding, batch=1), 2 * count)
    ids = np.concatenate([batch.sample_id for batch in batches])
    assert len(set(ids.tolist())) == len(ids)
    first, second = batches[:count], batches[count:]
    assert not all(
        np.array_equal(a.prompt.images.patches, b.prompt.images.patches)
        for a, b in zip(first, second, strict=True)
    )


def test_an_epoch_shows_every_view_once(atlas, encoding):
    still = mr_views(
        atlas,
        split="slices",
        part="train",
        structures=structure_names(atlas),
        look=LOOK,
        seed=0,
    )
    batches = take(stream(still, encoding, batch=1), still.count)
    pictures = {batch.prompt.images.patches.tobytes() for batch in batches}
    assert len(pictures) == len({
        still.view(i, np.random.default_rng(0)).images[0].tobytes()
        for i in range(still.count)
    })  # fmt: skip


def test_loose_answers_hold_the_box_and_leave_the_target(train_views, encoding):
    tight, loose = (
        take(stream(train_views, encoding, loose=factor), 8)
        for factor in (None, (1.1, 2.0))
    )
    overlaps = []
    for a, b in zip(tight, loose, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        assert_equal(a.prompt, b.prompt)
        for box, answer, mask in zip(b.boxes, b.answer, b.answer_mask, strict=True):
            said = parse_text(encoding.tokenizer.decode(answer[mask][:-1])).boxes
            assert (said[:2] <= box[:2] + 0.5).all()
            assert (said[2:] >= box[2:] - 0.5).all()
            assert said.min() >= 0 and said.max() <= 70
            overlaps.append(float(box_iou(box, said)))
    assert 0.3 < np.mean(overlaps) < 0.7  # E[1 / s]^2 is about 0.44


def test_evaluation_asks_every_question_once(test_views, encoding):
    records, ids = [], []
    for batch, part in eval_batches(test_views, encoding, batch=2, seed=3):
        assert batch.boxes.shape == (6, 4)
        assert batch.valid.sum() == len(part)
        rows = np.flatnonzero(batch.valid)
        np.testing.assert_array_equal(batch.boxes[rows], [r.box for r in part])
        assert batch.sample_id[rows].tolist() == [r.sample_id for r in part]
        records += part
        ids += [r.sample_id for r in part]
    views = [
        test_views.view(i, np.random.default_rng((3, i)))
        for i in range(test_views.count)
    ]
    expected = [(v.origin, name) for v in views for name in v.names]
    assert [(r.slice_id, r.structure) for r in records] == expected
    assert len(set(ids)) == len(ids)
    by_origin = {v.origin: v for v in views}
    for record in records:
        view = by_origin[record.slice_id]
        np.testing.assert_array_equal(record.image, view.images[0])
        assert record.query in view.questions[view.names.index(record.structure)]
        sides = record.box[2:] - record.box[:2]
        assert record.area_fraction == pytest.approx(sides.prod() / 70**2)


@pytest.mark.parametrize("ramps", [False, True])
def test_blank_pictures_are_asked_the_same_questions(test_views, encoding, ramps):
    """Where a pixel lies is told still, what is there is not."""
    seen = encoding._replace(ramps=ramps)
    pairs = [
        list(eval_batches(test_views, some, batch=2, seed=3))
        for some in (seen, seen._replace(blank=True))
    ]
    for (batch, records), (blank, blank_records) in zip(*pairs, strict=True):
        assert_equal([records], [blank_records])  # a report shows the picture still
        patches = [np.asarray(x.prompt.images.patches) for x in (batch, blank)]
        assert patches[0].shape == patches[1].shape
        assert (patches[0] != patches[1]).any()
        bare = [x._replace(prompt=x.prompt._replace(images=())) for x in (batch, blank)]
        assert_equal(*bare)
        real = np.asarray(blank.prompt.images.mask)
        for picture, some in zip(patches[1], real, strict=True):
            alike = (picture[some] == picture[some][0]).all()
            assert alike == (not ramps)


def test_evaluation_is_fixed_and_its_batch_free(test_views, encoding):
    def run(batch, limit=None):
        batches = list(
            eval_batches(test_views, encoding, batch=batch, seed=3, limit=limit)
        )
        return [r for _, part in batches for r in part], batches

    first, second = run(2), run(2)
    assert_equal([b for b, _ in first[1]], [b for b, _ in second[1]])
    other, _ = run(3)
    assert [r.sample_id for r in other] == [r.sample_id for r in first[0]]
    few, _ = run(2, limit=7)
    assert len(few) == 7
    assert {r.sample_id for r in few} <= {r.sample_id for r in first[0]}


def test_boxes_of_resized_images(folder_views, encoding):
    """Targets, answers and the picture are all in shown pixels."""
    larger = encoding.buckets._replace(windows=(20,), context=(72,))
    encoding = encoding._replace(buckets=larger)
    ((batch, (record,)),) = eval_batches(folder_views, encoding, batch=1, seed=0)
    assert record.image.shape == (126, 98, 3)
    # 130 x 100 pixels shown as 126 x 98
    expected = np.array([10, 13, 60, 78]) * [0.98, 126 / 130, 0.98, 126 / 130]
    np.testing.assert_allclose(record.box, expected, rtol=1e-6)
    np.testing.assert_allclose(batch.boxes[0], record.box)
    text = encoding.tokenizer.decode(batch.answer[0][batch.answer_mask[0]][:-1])
    assert text == answer_text(record.box, "insula", style="object")


@pytest.fixture
def folder_views():
    from medjax.data.boxes.views import View, Views

    view = View(
        images=(np.zeros((130, 100, 3), np.uint8),),
        names=("insula",),
        boxes=np.array([[10, 13, 60, 78]], np.float32),
        questions=(("Find the insula.",),),
        origin="a.png",
        plane="",
        position=0,
    )
    return Views(1, lambda index, rng: view, ("insula",), ("Find",), ((130, 100),))


def test_geometry_of_the_toy_is_met(encoding):
    assert encoding.geometry == GEOMETRY

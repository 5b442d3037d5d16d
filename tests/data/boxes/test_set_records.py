"""Views with several boxes a question, or none, as batches and as baselines."""

import itertools
from functools import partial

import numpy as np
import pytest

from medjax.data.batches import Encoding
from medjax.data.boxes.batches import eval_batches, find_records, train_batches
from medjax.data.boxes.set_baselines import most_common_set, view_sets, whole_image
from medjax.data.boxes.set_records import pad_set
from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.boxes.views import View, Views, box_sets
from medjax.data.prompting.chat import (
    Style,
    corpus,
    longest_answers,
    sample_answers,
    set_answer_text,
)
from medjax.data.prompting.prompts import plan_buckets
from medjax.data.prompting.tokenizer import train_tokenizer
from medjax.data.volumes.shapes import NAMES
from medjax.rl.text.box_set_text import parse_box_set_text
from tests.data.toy_atlas import GEOMETRY

STYLE = Style(None, "", "set-object")


def make(part="train", count=6):
    return synthetic_views(
        count=count, size=(56, 56), part=part, num_phrasings=2, sets=True
    )


@pytest.fixture(scope="module")
def encoding():
    views = make()
    answers = sample_answers(views.names, style=STYLE.answer)
    tokenizer = train_tokenizer(corpus(views.texts, answers, STYLE), 400)
    longest = longest_answers(
        views.names, sizes=views.sizes, style=STYLE.answer, most=views.most
    )
    buckets = plan_buckets(
        tokenizer,
        views.texts,
        longest,
        views.sizes,
        style=STYLE,
        geometry=GEOMETRY,
        slots=1,
        multiple=4,
    )
    return Encoding(tokenizer, STYLE, GEOMETRY, buckets, questions=3)


def stream(encoding, views=None, loose=None, seed=5):
    return iter(
        train_batches(
            views or make(),
            encoding,
            batch=2,
            seed=seed,
            loose=loose,
            process_index=0,
            process_count=1,
        )
    )


def said(encoding, batch, n):
    tokens = batch.answer[n][batch.answer_mask[n]][:-1]
    return parse_box_set_text(encoding.tokenizer.decode(tokens))


def test_pictures_show_what_is_counted():
    counts = []
    for index in range(40):
        view = make().view(index, np.random.default_rng((1, index)))
        image = view.images[0][..., 0].astype(int)
        assert len(view.names) == len(set(view.names)) == 3
        assert set(view.names) <= set(NAMES) and view.counts[2] == 0
        assert sum(view.counts) == len(view.boxes) <= 4
        for name, boxes in zip(view.names, box_sets(view), strict=True):
            counts.append(len(boxes))
            sign = 1 if name.startswith("bright") else -1
            for x1, y1, x2, y2 in boxes.astype(int):
                shape = sign * (image[y1:y2, x1:x2] - 128) > 55
                assert shape[0].any() and shape[-1].any() and shape.mean() > 0.3
                assert shape[:, 0].any() and shape[:, -1].any()
        assert all("every" in q or "each" in q for qs in view.questions for q in qs)
    assert {0, 1, 2, 3} <= set(counts)  # several and none


def test_batches_hold_the_sets_and_answers_say_them(encoding):
    batches = list(itertools.islice(stream(encoding), 4))
    seen = []
    for batch in batches:
        assert batch.boxes.shape == (6, 8, 4) and batch.boxes.dtype == np.float32
        assert batch.box_valid.shape == (6, 8) and batch.box_valid.dtype == bool
        for n in range(6):
            mine = batch.boxes[n][batch.box_valid[n]]
            seen.append(len(mine))
            assert not batch.boxes[n][~batch.box_valid[n]].any()
            parsed = said(encoding, batch, n)
            assert parsed.format and parsed.num_boxes == len(mine)
            answer = parsed.boxes[parsed.box_valid]
            order = np.lexsort((mine[:, 0], mine[:, 1]))  # from the top, then the left
            np.testing.assert_array_equal(answer, np.round(mine[order]))
    assert {0, 1, 2} <= set(seen)
    again = list(itertools.islice(stream(encoding), 4))
    for a, b in zip(batches, again, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.answer, b.answer)


def test_records_of_training_are_those_of_the_batch(encoding):
    batch = next(stream(encoding))
    records = find_records(make(), encoding, seed=5)(batch.sample_id.tolist())
    for n, record in enumerate(records):
        np.testing.assert_array_equal(record.boxes, batch.boxes[n][batch.box_valid[n]])


def test_loose_answers_hold_each_box(encoding):
    batch = next(stream(encoding, loose=(1.2, 1.6)))
    tight = next(stream(encoding))
    np.testing.assert_array_equal(batch.boxes, tight.boxes)
    larger = 0
    for n in range(6):
        boxes, parsed = batch.boxes[n][batch.box_valid[n]], said(encoding, batch, n)
        assert parsed.num_boxes == len(boxes)
        for x1, y1, x2, y2 in boxes:
            larger += any(
                a <= x1 and b <= y1 and c >= x2 and d >= y2 and (c - a) > (x2 - x1)
                for a, b, c, d in parsed.boxes[parsed.box_valid]
            )
    assert larger == batch.box_valid.sum() > 0


def test_an_evaluation_asks_every_question_once(encoding):
    views = make("test", count=5)
    seen, records = [], []
    for batch, part in eval_batches(views, encoding, batch=2, seed=0):
        assert int(batch.valid.sum()) == len(part)
        seen += batch.sample_id[batch.valid].tolist()
        records += part
    assert len(seen) == len(set(seen)) == len(records) == 15
    assert any(not len(r.boxes) for r in records)
    assert all(r.boxes.shape[1:] == (4,) for r in records)


@pytest.mark.parametrize("style", ["set-list", "set-object", "set-numbers"])
def test_answers_are_read_back_in_reading_order(style):
    boxes = [(30, 5.2, 40, 9), (1, 5, 3, 8), (7, 1, 9, 4)]
    parsed = parse_box_set_text(set_answer_text(boxes, 'a "b"', style=style))
    expected = [[7, 1, 9, 4], [1, 5, 3, 8], [30, 5, 40, 9]]
    assert parsed.format and parsed.boxes[:3].tolist() == expected
    assert ('"label": "a \\"b\\""' in set_answer_text(boxes, 'a "b"', style=style)) == (
        style == "set-list"
    )
    none = parse_box_set_text(set_answer_text([], "a", style=style))
    assert none.format and none.num_boxes == 0


def test_longest_answer_has_the_most_boxes():
    one, three = (
        longest_answers(["a"], sizes=[(99, 100)], style="set-numbers", most=n)[0]
        for n in (1, 3)
    )
    assert one.count("[100, 99, 100, 99]") == 1
    assert three.count("[100, 99, 100, 99]") == 3
    with pytest.raises(ValueError, match="'numbers': expected one of"):
        set_answer_text([], "a", style="numbers")


def a_view(counts, boxes, names=("a", "b")):
    return View(
        images=(np.zeros((56, 56, 3), np.uint8),),
        names=names,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        questions=tuple((f"Find {n}.",) for n in names),
        origin="case 7",
        plane="",
        position=0,
        counts=counts,
    )


def test_boxes_belong_to_structures_in_turn():
    first, second = box_sets(a_view((0, 2), [[1, 2, 3, 4], [5, 6, 7, 8]]))
    assert first.shape == (0, 4) and second.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    alone = box_sets(a_view(None, [[1, 2, 3, 4], [5, 6, 7, 8]]))
    assert [x.tolist() for x in alone] == [[[1, 2, 3, 4]], [[5, 6, 7, 8]]]
    with pytest.raises(ValueError, match="case 7: 1 boxes of 2 structures"):
        box_sets(a_view((0, 2), [[1, 2, 3, 4]]))


def test_nine_boxes_are_refused_and_so_are_sets_where_one_box_is_asked(encoding):
    nine = np.tile(np.float32([1, 2, 30, 40]), (9, 1))
    with pytest.raises(ValueError, match="case 7: 9 boxes in one answer; expected 8"):
        pad_set(nine, "case 7")
    view = a_view((0, 2), [[1, 2, 30, 40], [5, 6, 37, 48]])
    views = Views(1, lambda index, rng: view, ("a", "b"), ("Find a.",), ((56, 56),))
    one = encoding._replace(style=Style(None, "", "object"))
    with pytest.raises(ValueError, match=r"case 7.*\(0, 2\).*data.answers=set"):
        next(eval_batches(views, one, batch=1, seed=0))


def test_baselines_by_hand():
    """Two views of 56 x 56: of "a" twice two boxes, of "b" none and one."""
    drawn = [
        a_view((2, 0), [[20, 20, 30, 30], [0, 0, 10, 10]]),
        a_view((2, 1), [[2, 2, 12, 12], [22, 24, 34, 30], [1, 1, 5, 5]]),
    ]
    views = Views(2, lambda index, rng: drawn[index], ("a", "b"), (), ((56, 56),))
    memory = view_sets(views, GEOMETRY, seed=0, draws=1)
    assert len(memory.boxes) == 4
    record = partial(_record, plane="")
    asked = [record("a"), record("b"), record("c"), record("a", side=112)]
    found = most_common_set(memory, asked)
    expected = [[1, 1, 11, 11], [21, 22, 32, 30]]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert found[1].shape == found[2].shape == (0, 4)
    np.testing.assert_allclose(found[3], 2 * np.array(expected), rtol=1e-6)
    assert whole_image(asked)[3].tolist() == [[0, 0, 112, 112]]


def _record(structure, plane, side=56):
    from medjax.data.boxes.set_records import SetRecord

    return SetRecord(
        sample_id=0,
        image=np.zeros((side, side, 3), np.uint8),
        query="?",
        structure=structure,
        boxes=np.zeros((0, 4), np.float32),
        slice_id="case",
        plane=plane,
        position=0,
        columns={},
    )

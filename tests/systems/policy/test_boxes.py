"""Reading and judging boxes, the greedy evaluation, and the self-test at the start."""

import jax
import numpy as np
import pytest

from medjax.rl.text.box_text import parse_text
from medjax.systems.policy.boxes import check_answers, judge, make_evaluate
from medjax.types import TrainState
from tests.oracles.box_loops import iou
from tests.tiny import (
    ANSWERS,
    PAD,
    STOP,
    decoding,
    pick_contexts,
    tiny_batch,
    tiny_model,
    tiny_tables,
    token_texts,
)

TABLES, LENGTH = tiny_tables(), 3
NAMES = [f"sample {n}" for n in range(8)]


@pytest.fixture(scope="module")
def evaluate(params):
    run = jax.jit(make_evaluate(tiny_model(), TABLES, decoding=decoding(LENGTH)))
    state = TrainState(params, (), np.int32(0))
    return lambda batch, seed=0: jax.device_get(run(state, batch, jax.random.key(seed)))


def read(tokens, mask):
    """A completion's text through the host's parser."""
    texts = token_texts()
    return parse_text("".join(texts[t] for t in tokens[mask]))


def test_completions_are_read_and_held_against_their_targets():
    rng = np.random.default_rng(0)
    shape = (8, 4)
    tokens = rng.integers(0, STOP + 1, (*shape, LENGTH)).astype(np.int32)
    tokens[:, 0] = [7, STOP, PAD]  # one that is right
    mask = np.arange(LENGTH) < rng.integers(1, LENGTH + 1, (*shape, 1))
    targets = np.broadcast_to(tiny_batch().boxes[:, None], (*shape, 4)).copy()
    targets[:, 0] = np.asarray(read(np.array([7]), np.array([True])).boxes)
    judged = jax.device_get(jax.jit(judge)(tokens, mask, targets, TABLES))
    for n, g in np.ndindex(shape):
        parsed = read(tokens[n, g], mask[n, g])
        assert judged.parsed[n, g] == parsed.box_found
        assert judged.well_formed[n, g] == parsed.format
        expected = 0.0
        if parsed.box_found:
            np.testing.assert_array_equal(judged.boxes[n, g], parsed.boxes)
            expected = iou(parsed.boxes, targets[n, g])
        else:
            assert (judged.boxes[n, g] == 0).all()
        assert judged.iou[n, g] == pytest.approx(expected, abs=1e-6)
    assert (judged.iou[:, 0] == 1).all() and judged.parsed.any()
    assert not judged.parsed.all() and not judged.well_formed.all()


def test_evaluation_is_greedy_and_reads_boxes(evaluate):
    batch = tiny_batch()
    predictions, metrics = evaluate(batch)
    again, _ = evaluate(batch, seed=9)
    np.testing.assert_array_equal(predictions.tokens, again.tokens)
    for n in range(8):
        mask = predictions.mask[n]
        parsed = read(predictions.tokens[n], mask)
        assert metrics["parsed"][n] == parsed.box_found
        assert metrics["well_formed"][n] == parsed.format
        assert metrics["length"][n] == mask.sum()
        box = parsed.boxes if parsed.box_found else np.zeros(4)
        np.testing.assert_array_equal(predictions.boxes[n], box)
        overlap = iou(box, batch.boxes[n]) if parsed.box_found else 0.0
        assert metrics["iou"][n] == pytest.approx(overlap, abs=1e-6)
    assert metrics["parsed"].any()


def test_evaluation_does_not_depend_on_the_batch_around_a_row(evaluate):
    batch = tiny_batch()
    valid = np.arange(8) < 6
    predictions, metrics = evaluate(batch._replace(valid=valid))
    np.testing.assert_array_equal(metrics["valid"], valid)
    order = [3, 1, 0, 2]
    moved, scores = evaluate(pick_contexts(batch, order))
    rows = (2 * np.array(order)[:, None] + np.arange(2)).reshape(-1)
    np.testing.assert_array_equal(moved.tokens, predictions.tokens[rows])
    np.testing.assert_allclose(scores["iou"], metrics["iou"][rows], atol=1e-6)


def test_self_test_accepts_the_truth():
    batch = tiny_batch()
    check_answers(batch, TABLES, tau=0.8, names=NAMES)
    check_answers(batch, TABLES, tau=1.0, names=NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: {"boxes": b.boxes * 2}, r"8 of 8.*tau 0\.8.*\n.*sample 0.*IoU 0"),
        (lambda b: {"boxes": b.boxes * 2}, "resized pixels"),
        (lambda b: {"answer_mask": np.zeros_like(b.answer_mask)}, "read no box"),
        (lambda b: {"answer": np.full_like(b.answer, ANSWERS)}, "format wrong"),
        (
            lambda b: {"boxes": np.where(np.arange(8)[:, None] == 5, 1, b.boxes)},
            r"1 of 8 .*\n  sample 5: target \[1\.0, 1\.0, 1\.0, 1\.0\], read \[",
        ),
    ],
    ids=["frame", "way out", "cut", "format", "one row"],
)
def test_self_test_names_what_is_wrong(change, message):
    batch = tiny_batch()
    with pytest.raises(ValueError, match=message):
        check_answers(batch._replace(**change(batch)), TABLES, tau=0.8, names=NAMES)


def test_self_test_passes_over_rows_that_fill_the_batch():
    batch = tiny_batch()
    valid = np.arange(8) < 6
    boxes = np.where(valid[:, None], batch.boxes, 0).astype(np.float32)
    check_answers(
        batch._replace(boxes=boxes, valid=valid), TABLES, tau=0.8, names=NAMES
    )

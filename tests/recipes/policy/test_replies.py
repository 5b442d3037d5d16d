"""What answers say, with their confidence against a loop over tokens and bytes."""

import numpy as np
import pytest

from medjax.data.classes.tasks import ClassQuestion, ClassTask
from medjax.data.prompting.chat import Style, encode
from medjax.recipes.boxes.replies import box_reader
from medjax.recipes.classes.replies import label_reader
from medjax.recipes.policy.replies import read_replies, span_confidence
from medjax.rl.text.box_set_reader import box_confidence
from medjax.rl.text.box_text import box_span
from medjax.systems.policy.answering import Answers
from tests.recipes.policy.hub import make

BOX = '<think>disc</think><answer>{"bbox_2d": [1, 2, 30, 40]}</answer>'
TASK = ClassTask(
    "t", ("disc", "cross", "star"), (ClassQuestion("q", ("What?",), (0, 1, 2)),)
)


@pytest.fixture(scope="module")
def policy():
    return make()


def replies(policy, read, *texts, stop=True, spoil=None):
    rows = [encode(policy.tokenizer, text) for text in texts]
    rows = [row + [policy.ends.stop_tokens[0]] * stop for row in rows]
    length = max(map(len, rows)) + 2
    tokens = np.full((len(rows), length), policy.ends.pad, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for n, row in enumerate(rows):
        tokens[n, : len(row)], mask[n, : len(row)] = row, True
    logp = np.random.default_rng(0).uniform(-2, 0, mask.shape).astype(np.float32)
    logp[~mask] = np.nan  # what stands there means nothing
    if spoil is not None:
        logp[spoil] = np.nan
    answers = Answers(tokens, mask, logp)
    how = {
        "tables": policy.tables,
        "tokenizer": policy.tokenizer,
        "ends": policy.ends,
    }
    return read_replies(read, answers, **how), answers


def direct(policy, answers, row, first, last):
    """exp(logp) of the tokens that write a byte of text[first:last], their mean."""
    at, found = 0, []
    for token, ok, logp in zip(*(x[row] for x in answers), strict=True):
        if not ok:
            continue
        size = len(policy.tokenizer.decode([token], skip_special_tokens=True).encode())
        if set(range(at, at + size)) & set(range(first, last)):
            found.append(np.exp(np.float64(logp)))
        at += size
    return np.mean(found)


def test_a_box_its_label_and_its_confidence(policy):
    listed = BOX.replace("{", '[{"label": "a disc", ').replace("}", "}]")
    found, answers = replies(policy, box_reader(Style(None, "", "object")), BOX, listed)
    for row, (reply, text) in enumerate(zip(found, (BOX, listed), strict=True)):
        assert (
            reply.text == text and reply.parsed and reply.well_formed and not reply.why
        )
        assert reply.boxes.tolist() == [[1, 2, 30, 40]]
        first = text.index("[1, ")
        span = (first, first + len("[1, 2, 30, 40]"))
        assert box_span(text) == span
        expected = direct(policy, answers, row, *span)
        np.testing.assert_allclose(reply.confidence, [expected], rtol=1e-12)
    assert [reply.labels for reply in found] == [(), ("a disc",)]


def test_sets_have_the_confidence_of_an_evaluation(policy):
    text = (
        '<think>x</think><answer>[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 9, 8]}]'
        "</answer>"
    )
    none = "<think>x</think><answer>[]</answer>"
    read = box_reader(Style(None, "", "set-object"))
    (two, empty), answers = replies(policy, read, text, none)
    assert two.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 9, 8]]
    spans = np.array(
        [[[text.index(x), text.index(x) + 12] for x in ("[1", "[5")]], np.int32
    )
    whole = Answers(*(x[:1] for x in answers))
    logp = np.where(whole.mask, whole.logp, 0)
    on_device = box_confidence(logp, whole.tokens, whole.mask, spans, policy.tables)
    np.testing.assert_allclose(two.confidence, on_device[0], rtol=1e-5)
    assert empty.parsed and empty.boxes.shape == (0, 4) and empty.confidence == ()


@pytest.mark.parametrize(
    "text, why",
    [
        ("<think>x</think>", "no <answer>..</answer>"),
        ("<answer>here</answer>", "no bbox_2d in the first answer"),
        ('<answer>{"bbox_2d": [1, 2]}</answer>', "no box of four numbers"),
    ],
)
def test_why_there_is_no_box(policy, text, why):
    for form in ("object", "set-object"):
        ((reply,), _) = replies(policy, box_reader(Style(None, "", form)), text)
        assert not reply.parsed and why in reply.why
        assert reply.boxes.shape == (0, 4) and reply.confidence == ()


def test_odd_boxes_too_many_and_answers_that_were_cut(policy):
    read = box_reader(Style(None, "", "object"))
    turned = BOX.replace("30, 40", "0, 40")
    ((reply,), _) = replies(policy, read, turned)
    assert reply.parsed and reply.boxes.tolist() == [[1, 2, 0, 40]]
    assert "without area" in reply.why
    ((reply,), _) = replies(policy, read, BOX[:40], stop=False)
    assert reply.why.startswith(f"cut after {reply.length} tokens") and not reply.parsed
    many = ", ".join(['{"bbox_2d": [1, 2, 3, 4]}'] * 9)
    read = box_reader(Style(None, "", "set-object"))
    ((reply,), _) = replies(policy, read, f"<answer>[{many}]</answer>")
    assert not reply.parsed and reply.why == "9 boxes; at most 8 are read"


def test_classes_and_their_confidence(policy):
    read = label_reader(TASK, Style(None, "", "letter"))
    texts = ("<think>x</think><answer> B </answer>", "<answer>Q</answer>", "x")
    found, answers = replies(policy, read, *texts)
    assert [reply.labels for reply in found] == [("cross",), (), ()]
    assert [reply.why for reply in found] == [
        "",
        "the last answer, 'Q', names no class",
        "no <answer>..</answer>",
    ]
    first = texts[0].index(" B ")
    expected = direct(policy, answers, 0, first, first + 3)
    np.testing.assert_allclose(found[0].confidence, [expected], rtol=1e-12)
    assert found[1].confidence == () and found[0].boxes is None


def test_several_classes_or_none(policy):
    task = TASK._replace(multi=True)
    read = label_reader(task, Style(None, "", "name"))
    texts = ("<answer>star, disc</answer>", "<answer>none</answer>")
    (two, none), _ = replies(policy, read, *texts)
    assert two.labels == ("disc", "star") and len(two.confidence) == 1
    assert none.parsed and none.labels == () and len(none.confidence) == 1


def test_log_probabilities_that_are_no_numbers_stop(policy):
    read = box_reader(Style(None, "", "object"))
    with pytest.raises(ValueError, match="row 1: .*NaN or infinite"):
        replies(policy, read, BOX, BOX, spoil=(1, 0))


def test_tokens_without_bytes_are_in_no_span():
    logp, sizes = np.log([0.5, 0.1, 0.25]), np.array([2, 0, 2])
    assert span_confidence(logp, sizes, [(1, 3), (0, 0), (2, 4)]) == (
        pytest.approx(0.375),
        0.0,
        pytest.approx(0.25),
    )

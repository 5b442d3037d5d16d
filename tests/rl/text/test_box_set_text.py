"""What the host reads in an answer with several boxes or none, case by case."""

import numpy as np
import pytest

from medjax.rl.text.box_set_text import parse_box_set_text
from medjax.rl.text.box_text import parse_text

A, B = [1, 2, 30, 40], [5, 6, 7, 8]


def say(answer):
    return f"<think>x</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("answer", "boxes"),
    [
        ("[[1, 2, 30, 40], [5, 6, 7, 8]]", [A, B]),
        ("[[1,2,30,40],[5,6,7,8]]", [A, B]),
        ("\n[ [1, 2, 30, 40] ,\n\t[5, 6, 7, 8] ]\n", [A, B]),
        ("[1, 2, 30, 40]", [A]),
        ("[1, 2, 30, 40], [5, 6, 7, 8]", [A, B]),
        ('{"bbox_2d": [1, 2, 30, 40]}', [A]),
        (
            '[{"bbox_2d": [1, 2, 30, 40], "label": "a"},'
            ' {"label": "b", "bbox_2d": [5, 6, 7, 8]}]',
            [A, B],
        ),
        ('```json\n[{"bbox_2d": [5, 6, 7, 8]}]\n```', [B]),
        ('{"bbox_2d": [[1, 2, 30, 40], [5, 6, 7, 8]]}', [A, B]),
        ("[[-1, 2.5, 30, 40]]", [[-1, 2.5, 30, 40]]),
        ("[[1, 2, 30, 40], [1, 2, 30, 40]]", [A, A]),  # duplicates count
        ("[[1, 2, 30], [5, 6, 7, 8]]", [B]),
        ("[[1, 2, 30, 40, 5], [5, 6, 7, 8]]", [B]),
        ("[1, 2, [5, 6, 7, 8]]", [B]),
        ("[[1e3, 2, 3, 4], [5, 6, 7, 8]]", [B]),
        ("I see [[5, 6, 7, 8]]", [B]),
        (str([A] * 8), [A] * 8),
        ("[]", []),
        (" [ ] ", []),
        ("```json\n[]\n```", []),
        ("```[]```", []),
        ("no finding", []),
        (" No Findings. ", []),
    ],
)
def test_sets_that_are_found(answer, boxes):
    text = say(answer)
    parsed = parse_box_set_text(text)
    assert parsed.found and parsed.format and parsed.num_answers == 1
    assert parsed.num_boxes == len(boxes) == parsed.box_valid.sum()
    assert parsed.boxes[: len(boxes)].tolist() == boxes
    assert not parsed.boxes[len(boxes) :].any()
    for box, (start, end) in zip(boxes, parsed.spans, strict=False):
        inner = text[start:end]
        assert inner[0] == "[" and inner[-1] == "]"
        assert list(map(float, inner[1:-1].split(","))) == box


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (say(""), 0),
        (say("nothing"), 0),
        (say("[] or so"), 0),
        (say("[[]]"), 0),
        (say("no finding, no box"), 0),
        (say('{"box": [1, 2, 30, 40]}'), 0),
        (say('{"bbox_2d" [1, 2, 30, 40]}'), 0),
        (say("lesion [1, 2, 30, 40]"), 0),
        (say("[1, 2, 30]"), 0),
        (say(str([A] * 9)), 9),  # more than are matched exactly
        ("<answer>[[1, 2, 30, 40]]", 0),
        ("[[1, 2, 30, 40]]", 0),
        ("", 0),
    ],
)
def test_sets_that_are_not_found(text, number):
    parsed = parse_box_set_text(text)
    assert not parsed.found and not parsed.format and parsed.num_boxes == number
    assert not parsed.boxes.any() and not parsed.spans.any()
    assert not parsed.box_valid.any()


def test_the_first_answer_alone_is_read():
    parsed = parse_box_set_text(say("[]") + say("[[1, 2, 30, 40]]"))
    assert parsed.found and parsed.num_boxes == 0 and not parsed.format
    assert parsed.num_answers == 2
    outside = parse_box_set_text("[[1, 2, 3, 4]]" + say("[[5, 6, 7, 8]]"))
    assert outside.boxes[0].tolist() == B and outside.num_boxes == 1
    assert not outside.format


def test_one_box_is_what_the_reader_of_one_box_reads():
    for answer in ('{"bbox_2d": [1, 2.25, 30, -4]}', '[{"bbox_2d": [1, 2, 3, 4]}]'):
        one, several = parse_text(say(answer)), parse_box_set_text(say(answer))
        np.testing.assert_array_equal(several.boxes[0], one.boxes)
        assert several.format == one.format == several.found == one.box_found

"""Hand cases of the host parser, the definition of what a completion says."""

from fractions import Fraction

import numpy as np
import pytest

from medjax.rl.text.box_text import parse_text

BOX = '{"bbox_2d": [1, 2, 3, 4]}'
RIGHT = f"<think>lung</think><answer>{BOX}</answer>"


def check(text, box, right):
    parsed = parse_text(text)
    assert bool(parsed.box_found) == (box is not None)
    np.testing.assert_array_equal(
        parsed.boxes, np.array(box or [0, 0, 0, 0], np.float32)
    )
    assert bool(parsed.format) == right
    assert parsed.boxes.dtype == np.float32 and parsed.boxes.shape == (4,)


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        f" \n\t\v\f\r{RIGHT}\n ",
        f"<think>lung</think>\n\n<answer>{BOX}</answer>",
        f"<think></think><answer>[{BOX}]</answer>",
        f"<think>a < b, <b>bold</b></think><answer>so: {BOX}.</answer>",
        f"<think>{BOX[:9]}</think><answer>{BOX}</answer>",
        f"<think>größer\0</think><answer>{BOX}</answer>",
        '<think>1</think><answer>"bbox_2d"\n:\r[ 1\t,\v2\f,3 ,4\n]</answer>',
    ],
)
def test_right_format(text):
    check(text, [1, 2, 3, 4], True)
    assert parse_text(text).num_answers == 1


@pytest.mark.parametrize(
    "text",
    [
        f"<answer>{BOX}</answer>",
        f"Sure. {RIGHT}",
        f"{RIGHT}.",
        f"{RIGHT}</answer>",
        f"{RIGHT}<think>",
        f"<{RIGHT}",
        f"<think>lung</think>:<answer>{BOX}</answer>",
        f"<think>lung</think>\u00a0<answer>{BOX}</answer>",
        f"<think><think>lung</think><answer>{BOX}</answer>",
        f"<think>no <answer> yet</think>{BOX}</answer>",
        f"<answer>{BOX}</answer><think>lung</think>",
        f"<answer><think>lung</think>{BOX}</answer>",
        f"{RIGHT}<answer>{BOX}</answer>",
        f"<answer>a <answer> b {BOX}</answer>",
        f"<Think>lung</Think><answer>{BOX}</answer>",
        f"<think >lung</think><answer>{BOX}</answer>",
    ],
)
def test_box_without_the_format(text):
    check(text, [1, 2, 3, 4], False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        BOX,
        "<think>lung</think><answer></answer>",
        f"<think>lung</think><answer>{BOX}",
        f"<think>lung</think>{BOX}</answer>",
        f"</answer>{BOX}<answer>",
        f"<answer>none</answer><answer>{BOX}</answer>",
        f"<think>{BOX}</think><answer>there</answer>",
        f"<ANSWER>{BOX}</ANSWER>",
        '<answer>"bbox_2d": [1, 2, </answer><answer>3, 4]</answer>',
    ],
)
def test_no_box_in_the_first_closed_answer(text):
    check(text, None, False)


@pytest.mark.parametrize(
    ("inside", "box"),
    [
        ('"bbox_2d": [-5, 0.25, 512, 99.5]', [-5, 0.25, 512, 99.5]),
        ('"bbox_2d": [30, 40, 10, 20]', [30, 40, 10, 20]),
        ('"bbox_2d": [007, -0, 1.50, 0.0]', [7, 0, 1.5, 0]),
        ('"bbox_2d": [1, 2, 3], "bbox_2d": [5, 6, 7, 8]', [5, 6, 7, 8]),
        ('"bbox_2d": [1, 2, "bbox_2d": [5, 6, 7, 8]', [5, 6, 7, 8]),
        ('"bbox_2d"bbox_2d": [5, 6, 7, 8]', [5, 6, 7, 8]),
        ('""bbox_2d":[5,6,7,8],"bbox_2d":[1,2,3,4]', [5, 6, 7, 8]),
        ('{"label": "[1, 2, 3, 4]", "bbox_2d": [5, 6, 7, 8]}', [5, 6, 7, 8]),
        ('"bbox_2d": [99999999, 100000000, 1e3, 4]', None),
        (
            f'"bbox_2d": [99999999, 100000000.5, {"9" * 5000}, 1]',
            [99999999, 1e8, 1e8, 1],
        ),
        (f'"bbox_2d": [{"0" * 50}12, 0.{"0" * 50}9, 1, 2]', [12, 0, 1, 2]),
        ('"bbox_2d": [0.00000000019, 12345678.9, 1, 2]', [1e-10, 12345678, 1, 2]),
        ('"bbox_2d": [1, 2, 3, 4, 5]', None),
        ('"bbox_2d": [[1, 2, 3, 4]]', None),
        ('"bbox_2d": (1, 2, 3, 4)', None),
        ("'bbox_2d': [1, 2, 3, 4]", None),
        ('"bbox": [1, 2, 3, 4]', None),
        ('"bbox_2d": [+1, 2, 3, 4]', None),
        ('"bbox_2d": [1., 2, 3, 4]', None),
        ('"bbox_2d": [.5, 2, 3, 4]', None),
        ('"bbox_2d": [- 1, 2, 3, 4]', None),
        ('"bbox_2d": [1.2.3, 2, 3, 4]', None),
        ('"bbox_2d": [1 2, 3, 4]', None),
        ('"bbox_2d": [1, 2, 3, NaN]', None),
        ('"bbox_2d": [１, 2, 3, 4]', None),
        ('"bbox_2d":\u00a0[1, 2, 3, 4]', None),
    ],
)
def test_boxes(inside, box):
    check(f"<answer>{inside}</answer>", box, False)
    check(f"<think>x</think><answer>{inside}</answer>", box, box is not None)


def test_answers_are_counted():
    assert parse_text("<answer>").num_answers == 0
    assert parse_text("<answer><answer></answer></answer>").num_answers == 1
    assert parse_text("<answer>1</answer></answer><answer></answer>").num_answers == 2


def test_bytes_and_lone_surrogates():
    text = f"<think>\ud800</think><answer>{BOX}</answer>"
    check(text, [1, 2, 3, 4], True)
    check(b"\xff" + text.encode("utf-8", "surrogatepass"), [1, 2, 3, 4], False)


def test_seven_digits_are_the_nearest_float32():
    rng = np.random.default_rng(0)
    for digits in rng.integers(0, 10**7, 500):
        text = f"{digits:07d}"
        text = f"{text[: (at := rng.integers(1, 8))]}.{text[at:]}".rstrip(".")
        value = parse_text(f'<answer>"bbox_2d":[{text},0,0,0]</answer>').boxes[0]
        below, above = np.nextafter(value, -np.inf), np.nextafter(value, np.inf)
        error = abs(Fraction(float(value)) - Fraction(text))
        for other in (below, above):
            assert error <= abs(Fraction(float(other)) - Fraction(text)), text

"""The words of a prompt and its answer: Qwen2.5-VL's chat template, and their tokens.

The text is cut after the last `<|vision_end|>` (without images: after the system turn)
into the context and the question, so that several questions share one context. The cut
lies beside a special token, where a tokenizer cuts in any case: the two halves give the
tokens of the whole.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = "You are a helpful assistant."
INSTRUCTION = (
    " First reason about what the image shows between <think> and </think>, then give "
    "the box as JSON in pixels of the image between <answer> and </answer>, like this: "
    '<think>reasoning</think><answer>[{"bbox_2d": [x1, y1, x2, y2], "label": "name"}]'
    "</answer>"
)
SET_INSTRUCTION = (
    " First reason about what the image shows between <think> and </think>, then give "
    "all boxes as a JSON list in pixels of the image between <answer> and </answer>, "
    "like this: <think>reasoning</think><answer>"
    '[{"bbox_2d": [x1, y1, x2, y2], "label": "name"}, '
    '{"bbox_2d": [x1, y1, x2, y2], "label": "name"}]</answer>. '
    "If there is nothing to find, answer with an empty list: <answer>[]</answer>"
)
# the same of answers without reasoning
BARE_INSTRUCTION = (
    " Give the box as JSON in pixels of the image between <answer> and </answer>, and "
    'nothing else, like this: <answer>[{"bbox_2d": [x1, y1, x2, y2], "label": "name"}]'
    "</answer>"
)
BARE_SET_INSTRUCTION = (
    " Give all boxes as a JSON list in pixels of the image between <answer> and "
    "</answer>, and nothing else, like this: <answer>"
    '[{"bbox_2d": [x1, y1, x2, y2], "label": "name"}, '
    '{"bbox_2d": [x1, y1, x2, y2], "label": "name"}]</answer>. '
    "If there is nothing to find, answer with an empty list: <answer>[]</answer>"
)
AUTO = "auto"  # in a config: the text above, whichever it stands for
ANSWERS = ("list", "object")
SET_ANSWERS = ("set-list", "set-object", "set-numbers")  # of any number of boxes
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


class Style(NamedTuple):
    """The words around a question, and the form of its answer."""

    system: str | None  # None: no system turn
    suffix: str  # follows every question
    # of boxes one of ANSWERS, "object" being the shorter, or one of SET_ANSWERS
    answer: str
    think: bool = True  # an answer begins with its reasoning; False: it is all there is


def asks_for_sets(style: Style) -> bool:
    """Whether an answer holds any number of boxes, none included.

    Args:
        style: Its `answer` says so.
    """
    return style.answer in SET_ANSWERS


def named_style(*, system: str, suffix: str, answer: str, think: bool = True) -> Style:
    """The words around a question about boxes as a config names them.

    Args:
        system: What the system turn says: "auto" stands for `SYSTEM`, "" leaves the
            turn out, anything else is your own text.
        suffix: What follows every question: "auto" stands for `INSTRUCTION`, or for
            `SET_INSTRUCTION` where the answer is a set, "" for nothing, anything else
            is your own text.
        answer: The form of the answers, "list" as `INSTRUCTION` shows it, or "object";
            "set-list", "set-object" and "set-numbers" are those of sets; a run about
            classes has forms of its own. It is not checked here.
        think: Whether an answer begins with its reasoning. False: it is
            `<answer>..</answer>` alone, and "auto" stands for `BARE_INSTRUCTION` or
            `BARE_SET_INSTRUCTION`.
    """
    whole, bare = (
        (SET_INSTRUCTION, BARE_SET_INSTRUCTION)
        if answer in SET_ANSWERS
        else (INSTRUCTION, BARE_INSTRUCTION)
    )
    instruction = whole if think else bare
    return Style(
        system=(SYSTEM if system == AUTO else system) or None,
        suffix=instruction if suffix == AUTO else suffix,
        answer=answer,
        think=think,
    )


def written(answers: Sequence[str], style: Style) -> tuple[str, ...]:
    """Supervised answers as a style has them: whole, or without their reasoning.

    Args:
        answers: Each a reasoning and an answer in tags, or an answer alone.
        style: Its `think` says which.

    >>> style = Style(None, "", "letter", think=False)
    >>> written(["<think>a disc</think><answer>B</answer>"], style)
    ('<answer>B</answer>',)
    """
    if style.think:
        return tuple(answers)
    return tuple(answer.rpartition("</think>")[2] for answer in answers)


class Tokens(NamedTuple):
    """Ids of the special tokens that prompts are made of."""

    image_pad: int
    stop: int  # <|im_end|>
    pad: int  # the tokenizer's own, <|endoftext|> where it names none


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> Tokens:
    """Ids of the special tokens that prompts are made of.

    Args:
        tokenizer: One of the Qwen2.5-VL family.

    Raises:
        ValueError: The tokenizer lacks one of them; it is named.
    """
    names = ("<|image_pad|>", "<|im_end|>", "<|endoftext|>")
    needed = (*names, "<|im_start|>", "<|vision_start|>", "<|vision_end|>")
    # Not get_vocab(), which copies 150,000 entries at each call.
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in needed}
    missing = [  # an unknown token gives None, or the unknown token's id
        token
        for token, i in ids.items()
        if not isinstance(i, int) or tokenizer.convert_ids_to_tokens(i) != token
    ]
    if missing:
        raise ValueError(
            f"tokenizer without {', '.join(missing)}: expected one of the Qwen2.5-VL "
            "family, or one that medjax.data.prompting.tokenizer.train_tokenizer made"
        )
    tokens = Tokens(*(ids[name] for name in names))
    own = tokenizer.pad_token_id
    return tokens if own is None else tokens._replace(pad=own)


def prompt_text(
    questions: Sequence[str], *, images: int, style: Style
) -> tuple[str, list[str]]:
    """The context's text and that of each question, one `<|image_pad|>` an image.

    Args:
        questions: What is asked, without the style's suffix.
        images: How many images the context has, 0 or more.
        style: The words around each question; its `answer` is not read.

    Returns:
        The text up to and including the last image, and for each question the rest of
        the prompt up to where the answer begins.
    """
    system, user = "", "<|im_start|>user\n"
    if style.system is not None:
        system = f"<|im_start|>system\n{style.system}<|im_end|>"
        user = "\n" + user
    if images:
        context, start = system + user + _IMAGE * images, ""
    elif system:
        context, start = system, user
    else:
        context, start = "<|im_start|>", "user\n"
    end = f"{style.suffix}<|im_end|>\n<|im_start|>assistant\n"
    return context, [start + question + end for question in questions]


def answer_text(
    box: Sequence[float] | Float[np.ndarray, "4"],
    name: str,
    *,
    style: str,
    reason: str = "",
) -> str:
    """The supervised answer, with corners in whole pixels of the shown image.

    Args:
        box: Corners (x1, y1, x2, y2) in pixels of the shown image; they are rounded.
        name: What the box is put round: the label of a "list".
        style: "list" (a JSON list of objects with labels, as Qwen writes) or "object".
        reason: What the reasoning says; "" says the name.

    >>> answer_text((1, 2, 30, 40), "left insula", style="object")
    '<think>left insula</think><answer>{"bbox_2d": [1, 2, 30, 40]}</answer>'
    """
    corners = ", ".join(str(round(float(x))) for x in box)
    if style == "object":
        answer = f'{{"bbox_2d": [{corners}]}}'
    elif style == "list":
        answer = f'[{{"bbox_2d": [{corners}], "label": {json.dumps(name)}}}]'
    else:
        raise ValueError(f"answer style {style!r}: expected one of {ANSWERS}")
    return f"<think>{reason or name}</think><answer>{answer}</answer>"


def set_answer_text(
    boxes: Sequence[Sequence[float]] | Float[np.ndarray, "k 4"],
    name: str,
    *,
    style: str,
) -> str:
    """The supervised answer that holds any number of boxes, in reading order.

    From the top down and then from the left, by (y1, x1, y2, x2) in whole pixels: one
    set has one text, or a policy would be taught to guess the order.

    Args:
        boxes: Corners (x1, y1, x2, y2) in pixels of the shown image, which are rounded;
            none gives an empty list.
        name: What the reasoning says.
        style: "set-list" (a JSON list of objects with labels, as Qwen writes),
            "set-object" (without labels) or "set-numbers" (a list of lists).

    >>> set_answer_text([(9, 8, 30, 40), (1, 2, 3, 4)], "disc", style="set-numbers")
    '<think>disc</think><answer>[[1, 2, 3, 4], [9, 8, 30, 40]]</answer>'
    """
    if style not in SET_ANSWERS:
        raise ValueError(f"answer style {style!r}: expected one of {SET_ANSWERS}")
    corners = [[round(float(x)) for x in box] for box in boxes]
    corners.sort(key=lambda box: (box[1], box[0], box[3], box[2]))
    label = {"label": name} if style == "set-list" else {}
    listed = [{"bbox_2d": box} | label for box in corners]
    answer = json.dumps(corners if style == "set-numbers" else listed)
    return f"<think>{name}</think><answer>{answer}</answer>"


def sample_answers(names: Sequence[str], *, style: str) -> tuple[str, ...]:
    """An answer about each structure, with numbers of one to three digits.

    They let a tokenizer that is trained here meet all digits.

    Args:
        names: What is asked for.
        style: The form of the answers, one of `ANSWERS` or `SET_ANSWERS`.
    """
    if style in SET_ANSWERS:
        numbers = [(i % 10, 10 + i % 90, 100 + i, 57) for i in range(len(names) + 2)]
        return tuple(
            set_answer_text(numbers[i : i + i % 3], name, style=style)
            for i, name in enumerate(names)
        )
    return tuple(
        answer_text((i % 10, 10 + i % 90, 100 + i, 57), name, style=style)
        for i, name in enumerate(names)
    )


def longest_answers(
    names: Sequence[str],
    *,
    sizes: Sequence[tuple[int, int]],
    style: str,
    most: int = 1,
) -> tuple[str, ...]:
    """The longest right answer about each structure in images shown at `sizes`.

    Args:
        names: What may be asked for.
        sizes: (height, width) in pixels of images as they are shown, at least one.
        style: The form of the answers, one of `ANSWERS` or `SET_ANSWERS`.
        most: How many boxes a set has at most, 0 or more.
    """
    height, width = (max(size[a] for size in sizes) for a in (0, 1))
    box = (width, height, width, height)
    if style in SET_ANSWERS:
        return tuple(set_answer_text([box] * most, name, style=style) for name in names)
    return tuple(answer_text(box, name, style=style) for name in names)


def corpus(
    texts: Sequence[str], answers: Sequence[str], style: Style
) -> tuple[str, ...]:
    """All text that a run's tokenizer will meet: questions, answers, template.

    Args:
        texts: Every question, without the style's suffix.
        answers: Supervised answers.
        style: The words around each question.
    """
    context, questions = prompt_text(tuple(texts), images=1, style=style)
    return (context, *questions, *answers)


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a text; no special token is added at either end.

    Args:
        tokenizer: Its special tokens in the text become their ids.
        text: May be empty.
    """
    return tokenizer.encode(text, add_special_tokens=False)


def answer_length(tokenizer: "PreTrainedTokenizerBase", answers: Sequence[str]) -> int:
    """Tokens of the longest of one or more `answers`, stop token included.

    The bound on generation must not be below it: no answer could earn a reward.

    Args:
        tokenizer: The policy's own, since it decides how many tokens a text has.
        answers: Texts without the stop token.
    """
    return 1 + max(len(encode(tokenizer, text)) for text in answers)

"""Questions as the policy meets them: pictures from patches, texts from tokens."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from medjax.data.prompting.joining import join_patches
from medjax.recipes.policy.setup import Setup

_PARTS = ("train", "test")
_COUNTED = 2000  # questions of a part whose tokens are counted
_LOOKED = 400  # questions among which examples of different pictures are looked for


class Example(NamedTuple):
    """One question, decoded from the arrays that the policy is given."""

    part: str
    origin: str
    image: UInt8[np.ndarray, "h w 3"]  # the last one, joined of its patches
    query: str
    prompt: str  # the question's tokens as text, template and suffix included
    answer: str  # the supervised one's tokens as text


class Tokens(NamedTuple):
    """How many tokens each of N questions takes, a row each."""

    image: Int[np.ndarray, "N"]
    context: Int[np.ndarray, "N"]  # the image's among them
    question: Int[np.ndarray, "N"]
    answer: Int[np.ndarray, "N"]


def draw_examples(setup: Setup, *, count: int) -> list[Example]:
    """`count` questions of both parts, about different pictures while there are enough.

    Args:
        setup: Data, policy and encoding of the run.
        count: How many there are in all, half of each part, 2 or more.
    """
    found = []
    for part in _PARTS:
        examples: dict[str, Example] = {}
        for batch, records in _batches(setup, part, batch=1, limit=_LOOKED):
            for record in records:
                if record.slice_id not in examples and len(examples) < count // 2:
                    example = _example(setup, part, batch, record)
                    examples.update({record.slice_id: example})
            if len(examples) >= count // 2:
                break
        found += examples.values()
    return found


def count_tokens(setup: Setup) -> tuple[Tokens, list[tuple[str, Any]]]:
    """Tokens of the first 2,000 questions of each part, and (part, record) of each.

    Args:
        setup: Data, policy and encoding of the run; questions come in a random but
            fixed order.
    """
    rows, seen = [], []
    for part in _PARTS:
        for batch, records in _batches(setup, part, batch=8, limit=_COUNTED):
            prompt, kept = batch.prompt, np.asarray(batch.valid)
            counts = np.stack(
                [
                    (prompt.context.features >= 0).sum(axis=1),
                    prompt.context.mask.sum(axis=1),
                    prompt.question.mask.sum(axis=1),
                    batch.answer_mask.sum(axis=1),
                ]
            )
            rows.append(counts[:, kept])
            seen += [(part, record) for record in records]
    return Tokens(*np.concatenate(rows, axis=1)), seen


def _batches(
    setup: Setup, part: str, *, batch: int, limit: int
) -> Iterator[tuple[Any, list[Any]]]:
    source = setup.parts.train if part == "train" else setup.parts.test
    yield from setup.task.eval_batches(
        setup.parts._replace(test=source),
        setup.encoding._replace(questions=1),
        batch=batch,
        seed=setup.seed,
        limit=limit,
    )


def _example(setup: Setup, part: str, batch: Any, record: Any) -> Example:  # noqa: ANN401
    images, tokenizer = batch.prompt.images, setup.policy.tokenizer
    last = int(np.flatnonzero(images.mask[0].any(axis=1))[-1])
    question = batch.prompt.question
    return Example(
        part=part,
        origin=record.slice_id,
        image=join_patches(
            images.patches[0, last],
            images.rows_cols[0, last],
            images.mask[0, last],
            setup.policy.geometry,
        ),
        query=record.query,
        prompt=tokenizer.decode(question.tokens[0][question.mask[0]]),
        answer=tokenizer.decode(
            batch.answer[0][batch.answer_mask[0]], skip_special_tokens=True
        ),
    )

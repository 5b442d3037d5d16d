"""Qwen's own tokenizer, from the vocabulary that the package dashscope holds."""

import base64
import importlib.util
from pathlib import Path

import pytest

from medjax.data.prompting.chat import SYSTEM
from medjax.data.prompting.tokenizer import (
    ADDED_TOKENS,
    SPECIAL_TOKENS,
    assemble_tokenizer,
)
from medjax.data.prompting.vocabulary import byte_letters


def read_ranks():
    """Rank by token, in the file's order; skips the test where it is not installed."""
    spec = importlib.util.find_spec("dashscope")
    if spec is None:
        pytest.skip("dashscope is not installed; it holds Qwen's vocabulary")
    path = Path(spec.origin).parent / "resources" / "qwen.tiktoken"
    lines = [line.split() for line in path.read_bytes().splitlines()]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    assert list(ranks.values()) == list(range(151_643))
    return ranks


def qwen_tokenizer():
    """As it is published: 151,643 ranks, and the added tokens behind them."""
    ranks, letters = read_ranks(), byte_letters()

    def spell(data):
        return "".join(letters[byte] for byte in data)

    merges = [
        tuple(map(spell, split_token(token, rank, ranks)))
        for token, rank in ranks.items()
        if len(token) > 1
    ]
    vocabulary = {spell(token): rank for token, rank in ranks.items()}
    added = (*SPECIAL_TOKENS, *ADDED_TOKENS)
    return assemble_tokenizer(vocabulary, merges, added, SYSTEM)


def split_token(token, limit, ranks):
    """Merge a token's bytes by ranks below `limit`: the two parts it was made from."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        pairs = [
            ranks.get(left + right, limit)
            for left, right in zip(parts[:-1], parts[1:], strict=True)
        ]
        at = pairs.index(min(pairs))
        assert pairs[at] < limit
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts

"""Pictures that are copies, or nearly: equal pixels, or near hashes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from medjax.data.audit.records import Facts
from medjax.data.images import pixel_digest

NEAR_BITS = 4  # of 64 that the hashes of near-duplicates may differ in
NEAR_CORRELATION = 0.98  # of their small pictures, at least
FLAT = 1  # grey levels: a picture with no more has no contrast, and no hash of use
FAINT = 7  # of 256: a picture with no more looks black, as a mask of labels does
_GREYS = np.arange(256, dtype=np.uint8)
_BANDS = NEAR_BITS + 1  # two near hashes agree in at least one of so many bands
_NEIGHBOURS = 256  # of a band's equal ones that are compared with each
_BLOCK = 8192  # pairs whose small pictures are compared at a time


class Pair(NamedTuple):
    """Two pictures by their place in the list, and how alike they are."""

    first: int
    second: int
    bits: int  # in which the hashes differ
    correlation: float  # of the small pictures


def constant_pictures(facts: Sequence[Facts]) -> list[bool]:
    """Which pictures are one grey all over, such as a volume's empty slices.

    They are equal without being copies: nothing follows from it.

    Args:
        facts: One of each picture.
    """
    known: dict[tuple[int, int], set[str]] = {}
    for one in facts:
        if one.contrast == 0 and one.size not in known:
            image = np.zeros((*one.size, 3), np.uint8)
            known.update({one.size: {pixel_digest(image + n) for n in _GREYS}})
    return [one.contrast == 0 and one.digest in known[one.size] for one in facts]


def equal_pictures(facts: Sequence[Facts]) -> list[list[int]]:
    """Places of pictures with the same pixels, two or more each, in order.

    Args:
        facts: One of each picture; those that are one grey all over are left out.
    """
    found: dict[str, list[int]] = {}
    for n, (one, constant) in enumerate(
        zip(facts, constant_pictures(facts), strict=True)
    ):
        if not constant:
            found.setdefault(one.digest, []).append(n)
    return [places for places in found.values() if len(places) > 1]


def near_pictures(facts: Sequence[Facts]) -> list[Pair]:
    """Pairs of different pictures that are nearly the same, by their places.

    Near are hashes that differ in 4 of 64 bits at most, of pictures whose small
    versions (32 x 32 greys) correlate by more than 0.98. Pictures without contrast are
    left out, and of equal ones the first stands for all. The 64 bits are cut into five
    bands: near hashes agree in one, so that only pictures with an equal band are
    compared, and of those each with the 256 that follow: the cost grows with the number
    of pictures.

    Args:
        facts: One of each picture.
    """
    first: dict[str, int] = {}
    for n, one in enumerate(facts):
        if one.contrast > FLAT:
            first.setdefault(one.digest, n)
    places = np.array(list(first.values()), np.int64)
    if len(places) < 2:
        return []
    hashes = np.array([facts[n].hash for n in places], np.uint64)
    left, right = _near_hashes(hashes)
    if not len(left):
        return []
    alike = np.concatenate(
        [
            _correlations(
                facts, places[left[n : n + _BLOCK]], places[right[n : n + _BLOCK]]
            )
            for n in range(0, len(left), _BLOCK)
        ]
    )
    bits = _bits(hashes[left] ^ hashes[right])
    pairs = [
        Pair(int(places[a]), int(places[b]), int(bit), float(value))  # a < b: in order
        for a, b, bit, value in zip(left, right, bits, alike, strict=True)
        if value > NEAR_CORRELATION
    ]
    return sorted(pairs)


def _near_hashes(
    hashes: UInt[np.ndarray, "n"],
) -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]:
    """Places of near hashes, each pair once."""
    count = len(hashes)
    edges = np.linspace(0, 64, _BANDS + 1).astype(np.uint64)
    found = [np.zeros(0, np.int64)]
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        band = (hashes >> low) & ((np.uint64(1) << (high - low)) - np.uint64(1))
        order = np.argsort(band, kind="stable")
        band = band[order]
        for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
            same = np.flatnonzero(band[:-step] == band[step:])
            if not len(same):
                break  # equal bands lie side by side
            a, b = order[same], order[same + step]
            near = _bits(hashes[a] ^ hashes[b]) <= NEAR_BITS
            low_place, high_place = np.minimum(a, b)[near], np.maximum(a, b)[near]
            found.append(low_place * count + high_place)
    pairs = np.unique(np.concatenate(found))
    return pairs // count, pairs % count


def _bits(values: UInt[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    return np.bitwise_count(values).astype(np.int64)


def _correlations(
    facts: Sequence[Facts], first: Int[np.ndarray, "p"], second: Int[np.ndarray, "p"]
) -> Float[np.ndarray, "p"]:
    """Pearson's correlation of the small pictures of each pair."""
    left, right = (
        np.frombuffer(b"".join(facts[n].thumb for n in places), np.uint8)
        .reshape(len(places), -1)
        .astype(np.float32)
        for places in (first, second)
    )
    left, right = (x - x.mean(axis=1, keepdims=True) for x in (left, right))
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.einsum("nd,nd->n", left, right) / np.maximum(lengths, 1e-6)


def flat_pictures(facts: Sequence[Facts]) -> Bool[np.ndarray, "n"]:
    """Which pictures show one level of grey, but for 1 % of their pixels.

    Args:
        facts: One of each picture.
    """
    return np.array([one.contrast <= FLAT for one in facts], bool)


def faint_pictures(facts: Sequence[Facts]) -> Bool[np.ndarray, "n"]:
    """Which pictures show a few levels of grey, too few to be seen, and more than one.

    Args:
        facts: One of each picture.
    """
    return np.array([FLAT < one.contrast <= FAINT for one in facts], bool)

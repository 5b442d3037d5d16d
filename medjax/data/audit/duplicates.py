"""Pictures that are copies, or nearly: equal pixels, or near hashes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from medjax.data.audit.orientations import TURNS, turn_pictures, turned_hashes
from medjax.data.audit.records import THUMB, Facts, Pair, Pictures
from medjax.data.images import pixel_digest

NEAR_BITS = 4  # of 64 that the hashes of near-duplicates may differ in
NEAR_CORRELATION = 0.98  # of their small pictures, at least
FLAT = 1  # grey levels: a picture with no more has no contrast, and no hash of use
FAINT = 7  # of 256: a picture with no more looks black, as a mask of labels does
_GREYS = np.arange(256, dtype=np.uint8)
_BANDS = NEAR_BITS + 1  # two near hashes agree in at least one of so many bands
_NEIGHBOURS = 256  # of a band's equal ones that are compared with each
_BLOCK = 8192  # pairs whose small pictures are compared at a time


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


def near_pairs(pictures: Pictures) -> list[Pair]:
    """The pairs of nearly equal pictures, looked for where that was not done yet.

    Args:
        pictures: The places are those of its `facts`, in their order.
    """
    if pictures.near is not None:
        return list(pictures.near)
    return near_pictures(list(pictures.facts.values()))


def near_pictures(facts: Sequence[Facts]) -> list[Pair]:
    """Pairs of different pictures that are nearly the same, by their places.

    Near are hashes that differ in 4 of 64 bits at most, of pictures whose small
    versions (32 x 32 greys) correlate by more than 0.98. So are pictures of which one
    is turned by quarters or mirrored: the hashes of the small versions are compared in
    all eight orientations, and pictures in which every level is as frequent as in
    another, which exact copies are, need no near hash. Pictures without contrast are
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
    thumbs = np.frombuffer(b"".join(facts[n].thumb for n in places), np.uint8)
    thumbs = thumbs.reshape(len(places), THUMB, THUMB)
    hashes = np.array([facts[n].hash for n in places], np.uint64)
    found = _alike("", hashes, hashes, _near_hashes(hashes), thumbs)
    straight = set(found)
    upright = turned_hashes(thumbs, "")
    same = _same_levels([facts[n] for n in places])
    for turn in TURNS:
        others = turned_hashes(thumbs, turn)
        pairs = tuple(
            np.concatenate(both)
            for both in zip(_crossing_hashes(upright, others), same, strict=True)
        )
        for key, pair in _alike(turn, upright, others, pairs, thumbs).items():
            if key not in straight:
                found[key] = max(found.get(key, pair), pair, key=_correlation)
    return sorted(
        pair._replace(first=int(places[pair.first]), second=int(places[pair.second]))
        for pair in found.values()
    )


def _alike(
    turn: str,
    left_hashes: UInt[np.ndarray, "n"],
    right_hashes: UInt[np.ndarray, "n"],
    pairs: tuple[Int[np.ndarray, "p"], ...],
    thumbs: UInt[np.ndarray, "n a a"],
) -> dict[tuple[int, int], Pair]:
    """Those of the pairs whose small pictures correlate, by places, the lower first."""
    found: dict[tuple[int, int], Pair] = {}
    for start in range(0, len(pairs[0]), _BLOCK):
        left, right = (side[start : start + _BLOCK] for side in pairs)
        bits = _bits(left_hashes[left] ^ right_hashes[right])
        alike = _correlations(thumbs[left], turn_pictures(thumbs[right], turn))
        for n in np.flatnonzero(alike > NEAR_CORRELATION):
            low, high = sorted((int(left[n]), int(right[n])))
            pair = Pair(low, high, int(bits[n]), float(alike[n]), turn)
            found[low, high] = max(found.get((low, high), pair), pair, key=_correlation)
    return found


def _correlation(pair: Pair) -> float:
    return pair.correlation


def _near_hashes(
    hashes: UInt[np.ndarray, "n"],
) -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]:
    """Places of near hashes, each pair once, the lower place first."""
    count = len(hashes)
    found = [np.zeros(0, np.int64)]
    for band in _bands(hashes):
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


def _crossing_hashes(
    left: UInt[np.ndarray, "n"], right: UInt[np.ndarray, "n"]
) -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]:
    """Places (in the left, in the right) of near hashes; none of a picture and itself.

    Each of the left is compared with 256 of the right that have an equal band.
    """
    count = len(left)
    found = [np.zeros(0, np.int64)]
    for mine, theirs in zip(_bands(left), _bands(right), strict=True):
        order = np.argsort(theirs, kind="stable")
        theirs = theirs[order]
        start = np.searchsorted(theirs, mine, "left")
        stop = np.searchsorted(theirs, mine, "right")
        for step in range(min(_NEIGHBOURS, int((stop - start).max()))):
            a = np.flatnonzero(start + step < stop)
            b = order[start[a] + step]
            near = (_bits(left[a] ^ right[b]) <= NEAR_BITS) & (a != b)
            found.append(a[near] * count + b[near])
    pairs = np.unique(np.concatenate(found))
    return pairs // count, pairs % count


def _same_levels(
    facts: Sequence[Facts],
) -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]:
    """Places of pictures with the same numbers of each level, both ways round.

    Each is compared with the first of them alone: hardly two pictures are that are not
    copies.
    """
    first: dict[bytes | int, int] = {}  # by the place where levels are not known
    left = [first.setdefault(one.levels or n, n) for n, one in enumerate(facts)]
    pairs = np.array([(a, b) for b, a in enumerate(left) if a != b], np.int64)
    pairs = pairs.reshape(-1, 2)
    return np.concatenate(pairs.T), np.concatenate(pairs.T[::-1])


def _bands(hashes: UInt[np.ndarray, "n"]) -> list[UInt[np.ndarray, "n"]]:
    """The 64 bits in five parts."""
    edges = np.linspace(0, 64, _BANDS + 1).astype(np.uint64)
    return [
        (hashes >> low) & ((np.uint64(1) << (high - low)) - np.uint64(1))
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]


def _bits(values: UInt[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    return np.bitwise_count(values).astype(np.int64)


def _correlations(
    first: UInt[np.ndarray, "p a a"], second: UInt[np.ndarray, "p a a"]
) -> Float[np.ndarray, "p"]:
    """Pearson's correlation of the small pictures of each pair."""
    left, right = (x.reshape(len(x), -1).astype(np.float32) for x in (first, second))
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

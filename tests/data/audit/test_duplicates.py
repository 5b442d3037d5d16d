"""Copies of pictures: all that a loop over pairs finds, and nothing else."""

import itertools
import time

import numpy as np
import pytest
from PIL import Image

from medjax.data.audit.duplicates import (
    constant_pictures,
    equal_pictures,
    faint_pictures,
    flat_pictures,
    near_pictures,
)
from medjax.data.audit.facts import measure
from medjax.data.audit.orientations import TURNS, turn_pictures, turned_hashes
from medjax.data.images import perceptual_hash


def scene(seed, size=64):
    """Soft blobs, no two seeds alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 5), np.uint8)
    grey = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(grey)[..., None], 3, axis=-1)


def changed(image, by):
    return np.clip(image.astype(int) + by, 0, 255).astype(np.uint8)


def test_equal_and_near_pictures_are_found():
    images = [scene(n) for n in range(6)]
    images += [images[0], changed(images[1], 3), changed(images[2], 3)[:, ::-1]]
    facts = [measure(np.ascontiguousarray(x)) for x in images]
    assert equal_pictures(facts) == [[0, 6]]
    pairs = near_pictures(facts)
    assert [p[:2] + (p.turn,) for p in pairs] == [
        (1, 7, ""),
        (2, 8, "mirrored left to right"),
    ]
    assert pairs[0].bits <= 4 and pairs[0].correlation > 0.98


def textured(seed, size=64):
    """Blobs with grain of every size, as photographs have it."""
    rng = np.random.default_rng(seed)
    grey = np.zeros((size, size))
    for side, weight in ((5, 1), (9, 0.5), (17, 0.3), (33, 0.2)):
        grain = Image.fromarray(rng.normal(size=(side, side)).astype(np.float32))
        grey += weight * np.asarray(
            grain.resize((size, size), Image.Resampling.BICUBIC)
        )
    grey = np.clip(127 + 55 * grey, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


@pytest.mark.parametrize("change", [0, 4])
def test_turned_and_mirrored_pictures_are_found(change):
    """Every orientation, exactly and a little brighter, among pictures of their own."""
    images = [textured(n) for n in range(24)]
    copies = []
    for n in range(1, 8):
        copy = np.rot90(images[n], n % 4)
        copies.append(changed(copy[:, ::-1] if n >= 4 else copy, change))
    facts = [measure(np.ascontiguousarray(x)) for x in images + copies]
    pairs = near_pictures(facts)
    assert [(p.first, p.second) for p in pairs] == [(n, n + 23) for n in range(1, 8)]
    turns = {p.first: p.turn for p in pairs}
    assert turns[1] == turns[3] == "turned by a quarter"
    assert turns[2] == "turned by a half" and turns[4] == "mirrored left to right"
    assert turns[6] == "mirrored top to bottom"
    assert {turns[5], turns[7]} == {x for x in TURNS if "diagonal" in x}


def test_exact_copies_need_no_near_hash():
    """Smooth ones have frequencies of nothing but rounding, which turns their bits."""
    images = [scene(n, 40) for n in range(12)]
    copies = [np.rot90(x)[:, ::-1] for x in images]
    facts = [measure(np.ascontiguousarray(x)) for x in images + copies]
    found = {(p.first, p.second) for p in near_pictures(facts)}
    assert found == {(n, n + 12) for n in range(12)}


def test_hashes_of_all_orientations_come_from_one_transform():
    small = np.random.default_rng(0).integers(0, 256, (5, 32, 32), np.uint8)
    for turn in TURNS:
        moved = np.ascontiguousarray(turn_pictures(small, turn))
        bits = turned_hashes(moved, "") ^ turned_hashes(small, turn)
        assert np.bitwise_count(bits).max() == 0
    upright = [perceptual_hash(np.repeat(x[..., None], 3, axis=-1)) for x in small]
    assert upright == turned_hashes(small, "").tolist()


def test_a_picture_is_no_copy_of_itself_turned():
    image = np.zeros((48, 48, 3), np.uint8)
    image[12:36, 12:36] = 200  # all eight orientations are one
    assert near_pictures([measure(image), measure(scene(3))]) == []


def test_bands_find_what_all_pairs_find():
    rng = np.random.default_rng(0)
    base = measure(scene(0))
    # the same small picture everywhere, so that hashes alone decide
    hashes = [int(x) for x in rng.integers(0, 1 << 63, 40, np.int64)]
    for n in range(160):
        flips = rng.choice(64, rng.integers(0, 8), replace=False)
        hashes.append(hashes[n % 40] ^ sum(1 << int(bit) for bit in flips))
    facts = [base._replace(hash=h, digest=f"{n:064x}") for n, h in enumerate(hashes)]
    expected = [
        (a, b)
        for a, b in itertools.combinations(range(200), 2)
        if (hashes[a] ^ hashes[b]).bit_count() <= 4
    ]
    assert len(expected) > 80
    assert [(p.first, p.second) for p in near_pictures(facts)] == expected


def test_near_hashes_of_unlike_pictures_do_not_count():
    one, other = measure(scene(0)), measure(scene(1))
    assert near_pictures([one, other._replace(hash=one.hash)]) == []


def test_pictures_without_contrast_are_told_and_never_near():
    flat = [measure(np.full((32, 32, 3), n, np.uint8)) for n in (7, 9, 9)]
    facts = [*flat, measure(scene(0))]
    assert flat_pictures(facts).tolist() == [True, True, True, False]
    assert near_pictures(facts) == []
    assert equal_pictures(facts) == []


def test_pictures_that_look_black_are_told():
    labels = np.repeat(np.arange(3, dtype=np.uint8), 400)[:, None, None]
    images = [np.broadcast_to(labels * n, (1200, 30, 3)) for n in (1, 3, 4)]
    facts = [measure(np.ascontiguousarray(x)) for x in images]
    assert [one.contrast for one in facts] == [2, 6, 8]
    assert faint_pictures(facts).tolist() == [True, True, False]
    assert not flat_pictures(facts).any()
    assert not faint_pictures([measure(np.full((9, 9, 3), 4, np.uint8))]).any()


def test_nothing_has_no_copies():
    assert equal_pictures([]) == [] and near_pictures([]) == []
    assert near_pictures([measure(scene(0))]) == []


def test_many_alike_cost_little():
    """600 pictures with one hash: each is compared with 256, not with all."""
    base = measure(scene(0))
    facts = [base._replace(digest=f"{n:064x}") for n in range(600)]
    pairs = near_pictures(facts)
    assert 256 * 300 < len(pairs) <= 256 * 600


def test_eight_thousand_hashes_take_linear_time():
    """Four times the pictures in far less than sixteen times the time; pairs found."""
    base = measure(scene(0))

    def seconds(count):
        rng = np.random.default_rng(count)
        hashes = rng.integers(0, 2**64, count, np.uint64, endpoint=False)
        for n in range(0, count, 100):  # planted: 4 bits of its neighbour's differ
            bits = rng.choice(64, 4, replace=False).astype(np.uint64)
            hashes[n + 1] = hashes[n] ^ np.bitwise_or.reduce(np.uint64(1) << bits)
        facts = [
            base._replace(digest=f"{n:064x}", hash=int(x)) for n, x in enumerate(hashes)
        ]
        start = time.process_time()
        pairs = near_pictures(facts)
        spent = time.process_time() - start
        assert {(n, n + 1) for n in range(0, count, 100)} <= {p[:2] for p in pairs}
        return spent

    seconds(1000)
    assert seconds(8000) < 10 * max(seconds(2000), seconds(2000), 0.01)


def test_empty_pictures_are_no_copies():
    for grey in (0, 77, 255):
        empty = measure(np.full((40, 30, 3), grey, np.uint8))
        assert constant_pictures([empty, empty]) == [True, True]
        assert equal_pictures([empty, empty]) == []
    spot = np.zeros((40, 30, 3), np.uint8)
    spot[5, 7] = 255  # below the half per cent that contrast leaves out
    facts = measure(spot)
    assert facts.contrast == 0 and constant_pictures([facts]) == [False]
    assert equal_pictures([facts, facts]) == [[0, 1]]

"""Facts of pictures: measured right, by threads, remembered, and safe when damaged."""

import os
import stat
import threading
import time

import numpy as np
import pytest
from PIL import Image

from medjax.data.audit import facts as module
from medjax.data.audit.cache import file_stamp, load_facts, store_facts
from medjax.data.audit.duplicates import near_pictures
from medjax.data.audit.facts import measure, read_pictures
from medjax.data.images import ImageFile, pixel_digest


def noise(seed, size=(20, 24), channels=3):
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (*size, channels), np.uint8)
    return np.repeat(grey, 3 // channels, axis=-1)


@pytest.fixture
def files(tmp_path):
    found = {}
    for n in range(6):
        path = tmp_path / f"{n}.png"
        Image.fromarray(noise(n)).save(path)
        found[ImageFile(path)] = f"list.csv, line {n + 2}"
    return found


def test_a_picture_is_measured():
    image = noise(0, channels=1)
    found = measure(image)
    assert found.digest == pixel_digest(image)
    assert found.size == (20, 24) and not found.colour and len(found.thumb) == 1024
    assert found.contrast > 240
    assert measure(noise(0)).colour


@pytest.mark.parametrize(("bright", "contrast"), [(1, 0), (40, 155)])
def test_one_saturated_pixel_is_no_contrast(bright, contrast):
    image = np.full((64, 64, 3), 100, np.uint8)
    image.reshape(-1, 3)[:bright] = 255
    assert measure(image).contrast == contrast


def test_what_is_unchanged_is_not_read_again(files, tmp_path):
    cache = tmp_path / "cache" / "a.npz"
    ticks = []
    first = read_pictures(
        files, cache=cache, threads=3, tick=lambda *n: ticks.append(n)
    )
    assert first.decoded == 6 and ticks == [(n, 6) for n in range(1, 7)]
    again = read_pictures(files, cache=cache)
    assert again.decoded == 0 and again.facts == first.facts
    changed = next(iter(files))
    Image.fromarray(noise(99)).save(changed.path)
    third = read_pictures(files, cache=cache)
    assert third.decoded == 1
    assert third.facts[changed].digest == pixel_digest(noise(99))
    assert list(third.facts) == list(files)


def test_a_file_touched_or_moved_is_read_again(files, tmp_path):
    cache = tmp_path / "a.npz"
    read_pictures(files, cache=cache)
    file = next(iter(files))
    os.utime(file.path, ns=(1, 1))
    assert read_pictures(files, cache=cache).decoded == 1
    # frames of one file are apart
    assert file_stamp(file) != file_stamp(file._replace(frame=1))


def test_what_cannot_be_read_is_told_with_its_line(files, tmp_path):
    broken = ImageFile(tmp_path / "broken.png")
    whole = next(iter(files)).path.read_bytes()
    broken.path.write_bytes(whole[: len(whole) // 2])
    gone = ImageFile(tmp_path / "gone.png")
    every = {broken: "list.csv, line 9", gone: "list.csv, line 10", **files}
    cache = tmp_path / "a.npz"
    for decoded in (8, 2):  # what failed is tried again
        found = read_pictures(every, cache=cache)
        assert found.decoded == decoded and len(found.facts) == 6
        assert found.problems.keys() == {broken, gone}
        assert "list.csv, line 9" in found.problems[broken]
        assert "gone.png" in found.problems[gone]


@pytest.mark.parametrize("spoil", ["empty", "cut", "text", "columns", "shape"])
def test_a_damaged_cache_is_made_anew(files, tmp_path, spoil):
    cache = tmp_path / "a.npz"
    first = read_pictures(files, cache=cache)
    whole = cache.read_bytes()
    if spoil == "empty":
        cache.write_bytes(b"")
    elif spoil == "cut":
        cache.write_bytes(whole[: len(whole) // 2])
    elif spoil == "text":
        cache.write_text("no archive")
    elif spoil == "columns":
        with open(cache, "wb") as file:
            np.savez(file, key=np.zeros((1, 16), np.uint8))
    else:
        with np.load(cache) as arrays:
            columns = dict(arrays)
        with open(cache, "wb") as file:
            np.savez(file, **columns | {"thumb": columns["thumb"][:, :9]})
    assert load_facts(cache) == {}
    again = read_pictures(files, cache=cache)
    assert again.decoded == 6 and again.facts == first.facts
    assert read_pictures(files, cache=cache).decoded == 0


def test_an_object_in_the_cache_is_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    cache = tmp_path / "a.npz"
    np.savez(cache, key=np.array([Trap()], object))
    assert load_facts(cache) == {}
    assert not (tmp_path / "sprung").exists()


def test_a_cache_is_its_owners_and_holds_no_path(files, tmp_path):
    folder = tmp_path / "DOE^JANE"
    folder.mkdir()
    path = folder / "x.png"
    Image.fromarray(noise(3)).save(path)
    cache = tmp_path / "cache" / "a.npz"
    read_pictures({ImageFile(path): "line 2"}, cache=cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    assert b"DOE" not in cache.read_bytes()


def test_without_a_folder_to_write_to_nothing_is_remembered(files, tmp_path):
    taken = tmp_path / "file"
    taken.write_text("in the way")
    found = read_pictures(files, cache=taken / "a.npz")
    assert len(found.facts) == 6
    assert not store_facts(taken / "a.npz", {})
    assert read_pictures(files, cache=None).decoded == 6


def test_runs_at_once_leave_a_whole_cache(files, tmp_path):
    cache = tmp_path / "a.npz"
    some = list(files)
    parts = [dict.fromkeys(some[n::3], "line") for n in range(3)]
    runs = [
        threading.Thread(target=read_pictures, args=(part,), kwargs={"cache": cache})
        for part in parts * 3
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert load_facts(cache)  # of the last writer at least
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".npz" and p != cache]
    assert read_pictures(files, cache=cache).facts.keys() == files.keys()


def test_only_so_many_are_kept(files, tmp_path, monkeypatch):
    cache = tmp_path / "a.npz"
    monkeypatch.setattr("medjax.data.audit.cache._MOST", 4)
    some = list(files)
    read_pictures(dict.fromkeys(some[:3], ""), cache=cache)
    read_pictures(dict.fromkeys(some[3:], ""), cache=cache)
    assert len(load_facts(cache)) == 3


def test_pictures_are_read_side_by_side(files, monkeypatch):
    """Three threads meet inside the reader, which one alone would never leave."""
    meeting = threading.Barrier(3, timeout=20)
    read = module.read_image

    def slow(file, origin):
        meeting.wait()
        return read(file, origin)

    monkeypatch.setattr(module, "read_image", slow)
    found = read_pictures(files, cache=None, threads=3)
    assert len(found.facts) == 6


@pytest.mark.bench
def test_a_second_run_over_10_000_pictures_costs_little(tmp_path):
    """Prints both times; the second is that of a run whose data is unchanged.

    Medians of five, each with an empty memory of its own, and their range.
    """
    files = {}
    for n in range(10_000):
        path = tmp_path / f"{n}.png"
        Image.fromarray(noise(n, (32, 32), 1)[..., 0]).save(path)
        files[ImageFile(path)] = f"l.csv, line {n + 2}"
    rows = []
    for turn in range(5):
        seconds = []
        for decoded in (10_000, 0):
            started = time.monotonic()
            found = read_pictures(files, cache=tmp_path / f"{turn}.npz")
            near_pictures(list(found.facts.values()))
            seconds.append(time.monotonic() - started)
            assert found.decoded == decoded
        rows.append(seconds)
    for name, values in zip(("first", "second"), np.transpose(rows), strict=True):
        low, median, high = np.quantile(values, (0, 0.5, 1))
        print(f"{name} {median:.2f} s ({low:.2f} to {high:.2f}, five times)")
    assert np.median(rows, axis=0)[1] < 2

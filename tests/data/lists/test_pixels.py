"""Pictures decoded before a run: equal pixels lie in one part, failures are told."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medjax.data.audit.duplicates import near_pairs
from medjax.data.audit.facts import measure, read_pictures
from medjax.data.audit.records import Pictures
from medjax.data.boxes.slices import Look
from medjax.data.boxes.sources import load_parts
from medjax.data.classes.labelled_images import load_labelled_images
from medjax.data.classes.labels_csv import label_entries
from medjax.data.images import ImageFile
from medjax.data.lists.parts import HeldOut
from medjax.data.lists.pixels import picture_contents
from medjax.data.lists.reading import PLAIN
from medjax.data.prompting.layout import Geometry

GEOMETRY = Geometry(7, 2, 2, 28, 28 * 28, 56 * 56)


def decode(files):
    return read_pictures(files, cache=None)


def scene(seed):
    small = np.random.default_rng(seed).integers(0, 256, (5, 5), np.uint8)
    grey = Image.fromarray(small).resize((56, 56), Image.Resampling.BICUBIC)
    return np.asarray(grey)


def save(folder, name, image):
    (folder / name).parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / name)


def boxes(folder, names, reading=PLAIN, **more):
    """A JSONL file of these pictures, and its parts."""
    lines = [
        {"image": name, "query": "Find it.", "box": [5, 6, 40, 30], "frame": "original"}
        | {key: values[n] for key, values in more.items()}
        for n, name in enumerate(names)
    ]
    (folder / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return load_parts(
        str(folder / "r.jsonl"),
        look=Look((56, 56), 84.0, 4, phrasings=1),
        split="moved",
        held=HeldOut(0.5, seed=0),
        geometry=GEOMETRY,
        reading=reading,
        decode=decode,
    )


def labels(folder, rows, reading=PLAIN, header="image,label"):
    (folder / "l.csv").write_text("\n".join([header, *rows]) + "\n")
    return load_labelled_images(
        label_entries(folder / "l.csv", reading),
        folder,
        reading,
        decode,
        classes=None,
        ordinal=False,
        question=None,
        held=HeldOut(0.5, seed=0),
    )


def part_by_name(parts):
    return {sample.images[0].path.name: sample.part for sample in parts.samples}


def test_copies_under_other_names_lie_in_one_part(tmp_path):
    names = [f"{n}.png" for n in range(6)]
    for n, name in enumerate(names):
        save(tmp_path, name, scene(n % 3))
    for parts in (
        boxes(tmp_path, names),
        labels(tmp_path, [f"{name},{'abc'[n % 3]}" for n, name in enumerate(names)]),
    ):
        found = part_by_name(parts)
        assert set(found.values()) == {"train", "test"}
        assert all(found[f"{n}.png"] == found[f"{n + 3}.png"] for n in range(3))
        groups = {s.images[0].path.name: s.group for s in parts.samples}
        assert groups["0.png"] == groups["3.png"] != groups["1.png"]


def test_near_copies_do_where_that_is_asked(tmp_path):
    for n in range(8):
        save(tmp_path, f"{n}.png", scene(n // 2) // 2 + n % 2)
    names = [f"{n}.png" for n in range(8)]
    near = part_by_name(boxes(tmp_path, names, PLAIN._replace(near="group")))
    assert all(near[f"{n}.png"] == near[f"{n + 1}.png"] for n in (0, 2, 4, 6))
    apart = part_by_name(boxes(tmp_path, names))
    assert any(apart[f"{n}.png"] != apart[f"{n + 1}.png"] for n in (0, 2, 4, 6))


def test_a_stated_part_that_pixels_contradict_is_refused_or_dropped(tmp_path):
    names = [f"{n}.png" for n in range(4)]
    for n, name in enumerate(names):
        save(tmp_path, name, scene(0 if n == 3 else n))
    splits = ["train", "train", "test", "test"]
    with pytest.raises(ValueError, match="line 4: split test.*line 1.*same picture"):
        boxes(tmp_path, names, split=splits)
    rows = [f"{name},x{n % 3},{splits[n]}" for n, name in enumerate(names)]
    with pytest.raises(ValueError, match="line 5: split test.*line 2.*same picture"):
        labels(tmp_path, rows, header="image,label,split")
    drop = PLAIN._replace(on_bad="drop")
    parts = boxes(tmp_path, names, drop, split=splits)
    assert [bad.origin for bad in parts.dropped] == ["r.jsonl, line 4"]
    assert parts.train.count == 2 and parts.test.count == 1
    parts = labels(tmp_path, rows, drop, header="image,label,split")
    assert [bad.origin for bad in parts.dropped] == ["l.csv, line 5"]
    assert part_by_name(parts)["3.png"] == ""


def test_a_truncated_picture_is_found_before_training(tmp_path):
    names = [f"{n}.png" for n in range(4)]
    for n, name in enumerate(names):
        save(
            tmp_path,
            name,
            np.random.default_rng(n).integers(0, 255, (60, 56), np.uint8),
        )
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    rows = [f"{name},x{n % 2}" for n, name in enumerate(names)]
    with pytest.raises(ValueError, match="r.jsonl, line 3: cannot read 2.png"):
        boxes(tmp_path, names)
    with pytest.raises(ValueError, match="l.csv, line 4: cannot read 2.png"):
        labels(tmp_path, rows)
    drop = PLAIN._replace(on_bad="drop")
    for parts, line in (
        (boxes(tmp_path, names, drop), "r.jsonl, line 3"),
        (labels(tmp_path, rows, drop), "l.csv, line 4"),
    ):
        assert [bad.origin for bad in parts.dropped] == [line]
        assert len(parts.samples) == 3


def test_a_line_that_is_wrong_stops_before_pictures_are_decoded(tmp_path):
    save(tmp_path, "0.png", scene(0))

    def never(files):
        raise AssertionError("decoded")

    (tmp_path / "l.csv").write_text("image,label\n0.png,a\n0.png\n")
    with pytest.raises(ValueError, match="l.csv, line 3: fewer cells"):
        load_labelled_images(
            label_entries(tmp_path / "l.csv", PLAIN),
            tmp_path,
            PLAIN,
            never,
            classes=None,
            ordinal=False,
            question=None,
            held=HeldOut(0.5, seed=0),
        )


def test_the_identity_holds_the_pixels(tmp_path):
    names = [f"{n}.png" for n in range(4)]
    for n, name in enumerate(names):
        save(tmp_path, name, scene(n))
    rows = [f"{name},x{n % 2}" for n, name in enumerate(names)]
    before = boxes(tmp_path, names).identity, labels(tmp_path, rows).identity
    image = scene(2).copy()
    image[3, 4] ^= 1
    save(tmp_path, "2.png", image)
    after = boxes(tmp_path, names).identity, labels(tmp_path, rows).identity
    assert before[0]["sha256"] != after[0]["sha256"]
    assert before[1]["sha256"] != after[1]["sha256"]


def test_near_copies_need_decoded_pictures():
    with pytest.raises(ValueError, match="near=group needs the pictures decoded"):
        picture_contents(None, near=True)


def test_near_copies_that_another_process_found_join():
    """It has their small pictures; here are the pairs alone."""
    images = (scene(0), scene(0)[:, ::-1], scene(1))
    found = [
        measure(np.ascontiguousarray(np.repeat(x[..., None], 3, axis=-1)))
        for x in images
    ]
    files = [ImageFile(Path(f"{n}.png")) for n in range(3)]
    there = Pictures(dict(zip(files, found, strict=True)), {}, 3)
    bare = {f: x._replace(thumb=b"", levels=b"") for f, x in there.facts.items()}
    here = Pictures(bare, {}, 3, tuple(near_pairs(there)))
    contents = picture_contents(here, near=True)
    assert contents == picture_contents(there, near=True)
    assert set(contents[files[0]]) & set(contents[files[1]])
    assert not set(contents[files[0]]) & set(contents[files[2]])

"""Lists of published layouts with bytes lost, doubled, flipped or foreign.

Whatever is left is read or refused, and a refusal names the list or a line of it: no
error of Python's own.
"""

import json

import numpy as np
import pytest

from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.formats.table import box_entries
from medjax.data.classes.formats.table import read_labels
from medjax.data.lists.reading import Bad, Reading
from tests.data import folders

LISTS = {
    "ham10000": ("HAM10000_metadata.csv",),
    "tn3k": ("tn3k-trainval-fold0.json", "label4trainval.csv"),
    "nih": ("BBox_List_2017.csv", "Data_Entry_2017.csv", "test_list.txt"),
    "vindr": ("annotations/annotations_train.csv", "annotations/image_labels_test.csv"),
    "coco": ("instances.json",),
}
PIECES = (b"\x00", b"\xff", b'"', b"{", b"[]", b",", b"\n", b"1e400", b"null", b"-")
PIECES += (b"NaN", b"true", b"\xef\xbb\xbf", b"No finding", b"|", "ü".encode("latin-1"))
CASES = 40  # of each list


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("lists")
    folders.ham10000(root / "ham10000", lesions=3)
    folders.tn3k(root / "tn3k", train=3, val=1, test=2)
    folders.nih(root / "nih", patients=4, size=(40, 40))
    folders.vindr(root / "vindr")
    content = folders.coco(root / "coco")
    for n, annotation in enumerate(content["annotations"][:3]):
        del annotation["bbox"]
        shapes = (
            [[3, 4, 20, 4.5, 7, 30.25]],
            {"size": [40, 56], "counts": [80, 12, 2148]},
            {"size": [40, 56], "counts": "[6a0g" + "0" * 48 + "]P1"},
        )
        annotation["segmentation"] = shapes[n]
    (root / "coco" / "instances.json").write_text(json.dumps(content))
    return root


def spoil(rng, content):
    """The bytes with one to three changes."""
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        a, b = sorted(rng.integers(0, len(content) + 1, 2).tolist())
        way = rng.integers(6)
        if way == 0:
            content = content[:b]
        elif way == 1:
            del content[a : min(b, a + 12)]
        elif way == 2 and content:
            content[min(a, len(content) - 1)] = int(rng.integers(256))
        elif way == 3:
            content = content[:b] + content[a:]
        elif way == 4:
            content[a:a] = PIECES[rng.integers(len(PIECES))]
        else:
            old = PIECES[rng.integers(len(PIECES))]
            content = content.replace(b",", old, int(rng.integers(1, 3)))
    return bytes(content)


def read(path, format):
    reading, asking = Reading(format=format, answers="set"), Asking()
    yield from box_entries(path, reading, asking)
    if format != "coco":
        yield from read_labels(path, reading)


@pytest.mark.parametrize(
    ("format", "name"), [(one, name) for one in LISTS for name in LISTS[one]]
)
def test_spoilt_lists_are_read_or_refused_by_name(places, format, name):
    path = places / format / name
    whole = path.read_bytes()
    assert not [one for one in read(places / format, format) if isinstance(one, Bad)]
    try:
        for seed in range(CASES):
            path.write_bytes(spoil(np.random.default_rng([2028, seed]), whole))
            try:
                found = list(read(places / format, format))
            except ValueError as error:
                known = (path.name, format, "HAM10000", "TN3K", "VinDr", "data.")
                assert any(word in str(error) for word in known), (seed, error)
            else:
                bad = [one for one in found if isinstance(one, Bad)]
                assert all(one.message.startswith(one.origin) for one in bad), seed
    finally:
        path.write_bytes(whole)

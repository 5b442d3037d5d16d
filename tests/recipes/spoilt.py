"""A user's data set with faults planted, and what a check has to say of each."""

import json
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.recipes.pictures import scene

GOOD = 40  # lines without a fault come first


class Fault(NamedTuple):
    """One fault, and a pattern of the line in which the check names it."""

    name: str
    told: str  # LINE stands for "boxes.jsonl, line N:"


def plant(folder):
    """Write images/ and boxes.jsonl; the planted faults in the order of their lines."""
    images = folder / "images"
    images.mkdir(parents=True)
    lines: list[bytes] = []
    faults: list[Fault] = []
    count = 0

    def good(**changes):
        """A line about a picture of its own, in a part of its own patient."""
        nonlocal count
        image, box = scene(1000 + count)
        name = f"{count}.png"
        Image.fromarray(image).save(images / name)
        entry = {
            "image": f"images/{name}",
            "query": "Find the square.",
            "box": box,
            "frame": "original",
            "label": "square",
            "patient": f"p{count:03d}",
            "split": "test" if count % 4 == 3 else "train",
        }
        count += 1
        return entry | changes

    def add(entry):
        text = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
        lines.append(text)
        return len(lines)

    def fault(name, told, *entries):
        """The last of these lines is the wrong one."""
        for entry in entries:
            number = add(entry)
        origin = f"boxes.jsonl, line {number}"
        faults.append(Fault(name, told.replace("LINE", origin)))

    def picture(write):
        """A line whose picture is written anew."""
        entry = good()
        write(folder / entry["image"])
        return entry

    for _ in range(GOOD):
        add(good())
    fault("null patient", "LINE: patient is null", good(patient=None))
    fault("blank patient", "LINE: patient is empty", good(patient="  "))
    fault("patient as a number", "LINE: patient is 7; expected text", good(patient=7))
    fault("nobody's patient", "LINE: patient is 'unknown'", good(patient="unknown"))
    fault("patient in two spellings", "LINE: .*P000", good(patient="P000"))
    fault(
        "NaN label",
        "LINE: NaN is not JSON",
        json.dumps(good(label=float("nan"))).encode(),
    )
    fault("label that says nothing", "LINE: label is 'n/a'", good(label="n/a"))
    fault("null query", "LINE: query is null", good(query=None))
    fault("token in a query", "LINE: .*image_pad", good(query="<|image_pad|> Find it."))
    fault("unknown key", "LINE: .*unknown keys? .*bbox", good(bbox=[1, 2, 3, 4]))
    fault("key twice", "LINE: key 'label' is there twice", _twice(good()))
    fault("no JSON", "LINE: not JSON", json.dumps(good()).encode()[:-9])
    fault(
        "GBK",
        "LINE: not text in UTF-8",
        json.dumps(good(query="找到方块"), ensure_ascii=False).encode("gbk"),
    )
    fault("wrong frame", "LINE: frame 'pixels'", good(frame="pixels"))
    fault("box outside", "LINE: box .* leaves the image", good(box=[5, 5, 90, 40]))
    fault("box empty", "LINE: box .* is empty", good(box=[20, 5, 20, 40]))
    fault("box of three numbers", "LINE: box", good(box=[5, 5, 40]))
    fault("box with a word", "LINE: box", good(box=[5, 5, "40", 40]))
    fault(
        "box below a pixel as shown",
        "LINE: box .* below one pixel",
        picture_line(good(box=[100, 100, 101, 101]), folder, _large),
    )
    fault("wrong declared size", "LINE: size .* is declared", good(size=[56, 60]))
    turned = picture(_exif)
    fault(
        "EXIF turns the picture, and the size is the stored one",
        "LINE: size .* is declared",
        turned | {"size": [60, 56]},
    )
    fault("missing file", "LINE: no image gone.png", good(image="images/gone.png"))
    fault("folder for a file", "LINE: images is a folder", good(image="images"))
    fault("0 bytes", "LINE: .* has 0 bytes", picture(lambda p: p.write_bytes(b"")))
    fault("truncated file", "LINE: cannot read .*truncated", picture(_cut))
    fault("no picture", "LINE: cannot read", picture(lambda p: p.write_text("text")))
    fault("pixel bomb", "LINE: .*([Pp]ixels|bomb)", picture(_bomb))
    fault("huge aspect", "LINE: .*200 times", picture(_thin))
    tiff = good()
    _nan_tiff(images / "nan.tif")
    fault("NaN TIFF", "LINE: .*NaN", tiff | {"image": "images/nan.tif"})
    fault("unknown part", "LINE: split 'validate'", good(split="validate"))
    fault(
        "patient in two parts",
        "LINE: split test, but .* same patient",
        good(patient="p900", split="train"),
        good(patient="p900", split="test"),
    )
    one, other = good(split="train"), good(split="test")
    same = (folder / one["image"]).read_bytes()
    (folder / other["image"]).write_bytes(same)
    fault(
        "equal pixels in two parts",
        "LINE: split test, but .* same picture",
        one,
        other | {"box": one["box"]},
    )
    one = good(split="train")
    twin = {key: value for key, value in one.items()}
    fault(
        "two labels",
        "LINE: label 'circle', but 'square'",
        one,
        twin | {"label": "circle"},
    )
    one = good()
    fault("several boxes", "LINE: .*2 boxes", one | {"box": [1, 1, 20, 20]}, one)
    faults[-1] = Fault("several boxes", "2 boxes answer")
    one = good()
    fault(
        "readers without a choice",
        "several readers|data.readers",
        one | {"reader": "r1"},
        one | {"reader": "r2"},
    )
    fault("reserved column", "LINE: .*tau", good(columns={"tau": 1.0}))
    one, other = good(split="train"), good(split="test")
    near, box = scene(7000)
    Image.fromarray(near).save(folder / one["image"])
    Image.fromarray(near // 2).save(folder / other["image"])
    fault(
        "near copies in two parts",
        r"line \d+ \(.*\) ~ boxes.jsonl, line \d+ .*of 64",
        one | {"box": box},
        other | {"box": box},
    )
    flat = picture(lambda p: Image.new("L", (56, 60), 77).save(p))
    fault("no contrast", "line {n} .*one grey level", flat)
    faults[-1] = Fault("no contrast", f"boxes.jsonl, line {len(lines)} .*one grey")
    (folder / "boxes.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines) + b"\n")
    return faults


def picture_line(entry, folder, write):
    write(folder / entry["image"])
    return entry


def _twice(entry):
    text = json.dumps(entry)
    return (text[:-1] + ', "label": "circle"}').encode()


def _large(path):
    Image.fromarray(scene(5, (600, 560))[0]).save(path)


def _exif(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: 56 x 60 as shown
    Image.fromarray(scene(6)[0]).save(path, exif=exif)


def _cut(path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 56), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _thin(path):
    Image.fromarray(np.tile(scene(8)[0][:1], (1, 60))[:, :1000]).save(path)


def _bomb(path):
    """A PNG whose header promises 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def _nan_tiff(path):
    grey = scene(9)[0].astype(np.float32) / 1000
    grey[3, 4] = np.nan
    Image.fromarray(grey).save(path)

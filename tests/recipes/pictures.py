"""Small data sets of a user, boxes and labels, in folders that name patients."""

import json

import numpy as np
from PIL import Image


def scene(seed, size=(60, 56)):
    """Soft blobs with a bright square, no two seeds alike; and the square's box."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 200, (5, 5), np.uint8)
    grey = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
    image = np.asarray(grey).copy()
    side = int(rng.integers(12, 24))
    y, x = (int(rng.integers(0, n - side)) for n in size)
    image[y : y + side, x : x + side] = 255
    return image, [x, y, x + side, y + side]


def save_scenes(folder, count, first=0):
    """`count` pictures in a folder of images/, and their boxes."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    boxes = []
    for n in range(count):
        image, box = scene(first + n)
        Image.fromarray(image).save(folder / "images" / f"{n}.png")
        boxes.append(box)
    return boxes


def box_lines(boxes, **columns):
    """A line a picture; `columns` are functions of its number."""
    return [
        {
            "image": f"images/{n}.png",
            "query": "Find the square.",
            "box": box,
            "frame": "original",
            "label": "square",
        }
        | {name: make(n) for name, make in columns.items()}
        for n, box in enumerate(boxes)
    ]


def write_boxes(folder, lines):
    path = folder / "boxes.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return path


def write_labels(folder, rows, header="image,label,patient"):
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path

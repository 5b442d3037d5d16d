"""Pictures of drawn shapes and their boxes as a COCO folder, to try the whole way with.

    python benchmarks/shapes_folder.py FOLDER

writes FOLDER/train (60 pictures) and FOLDER/test (16), each with its
`_annotations.coco.json`, and FOLDER/new: 4 pictures without boxes. A picture has 112 x 112
pixels and shows four different shapes on noise. They are not medical data. The same
program always writes the same folder.
"""

import json
import pathlib
import sys

import numpy as np
from PIL import Image

from medjax.data.boxes.synthetic import synthetic_views

SIZE = (112, 112)  # height, width
PARTS = {"train": ("train", 60), "test": ("val", 16), "new": ("test", 4)}


def main(folder: pathlib.Path) -> None:
    for name, (part, count) in PARTS.items():
        write_part(folder / name, part, count, boxes=name != "new")


def write_part(folder: pathlib.Path, part: str, count: int, *, boxes: bool) -> None:
    """Pictures of one part, and their boxes as COCO has them: corner, width, height."""
    folder.mkdir(parents=True)
    views = synthetic_views(count=count, size=SIZE, part=part, num_phrasings=1)
    numbers = {label: n for n, label in enumerate(views.names, 1)}
    images, annotations = [], []
    for n in range(count):
        view = views.view(n, np.random.default_rng(n))
        image = {"id": n, "file_name": f"{part}_{n:02}.png"}
        Image.fromarray(view.images[0]).save(folder / image["file_name"])
        images.append({**image, "height": SIZE[0], "width": SIZE[1]})
        for label, box in zip(view.names, view.boxes.tolist(), strict=True):
            left, top, right, bottom = box
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": n,
                    "category_id": numbers[label],
                    "bbox": [left, top, right - left, bottom - top],
                }
            )
    if boxes:
        categories = [{"id": n, "name": label} for label, n in numbers.items()]
        document = {
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        path = folder / "_annotations.coco.json"
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

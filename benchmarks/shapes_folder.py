"""Pictures of drawn shapes and their boxes as a COCO folder, to try the whole way with.

    python benchmarks/shapes_folder.py FOLDER

writes FOLDER/train (400 pictures) and FOLDER/test (32), each with its
`_annotations.coco.json`, FOLDER/test/questions.jsonl, which asks about every box of the
test, and FOLDER/new: 4 pictures without boxes. A picture has 112 x 112 pixels and shows
four different shapes on noise. They are not medical data. The program always writes the
same folder.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.boxes.views import Views

SIZE = (112, 112)  # height, width
PARTS = {"train": ("train", 400), "test": ("val", 32), "new": ("test", 4)}


def main(folder: pathlib.Path) -> None:
    for name, (part, count) in PARTS.items():
        place = folder / name
        place.mkdir(parents=True)
        views = synthetic_views(count=count, size=SIZE, part=part, num_phrasings=1)
        shown = [views.view(n, np.random.default_rng(n)) for n in range(count)]
        files = [f"{name}_{n:03}.png" for n in range(count)]
        for file, view in zip(files, shown, strict=True):
            Image.fromarray(view.images[0]).save(place / file)
        if name == "new":
            continue
        text = json.dumps(coco(views, files, shown), indent=1)
        (place / "_annotations.coco.json").write_text(text, encoding="utf-8")
        if name == "test":
            lines = [
                json.dumps({"image": f"{name}/{file}", "query": f"Find the {label}."})
                for file, view in zip(files, shown, strict=True)
                for label in view.names
            ]
            text = "\n".join([*lines, ""])
            (place / "questions.jsonl").write_text(text, encoding="utf-8")


def coco(views: Views, files: Sequence[str], shown: Sequence) -> dict:
    """Boxes as COCO has them: the upper left corner, width and height."""
    numbers = {label: n for n, label in enumerate(views.names, 1)}
    images, annotations = [], []
    for n, (file, view) in enumerate(zip(files, shown, strict=True)):
        images.append({"id": n, "file_name": file, "height": SIZE[0], "width": SIZE[1]})
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
    categories = [{"id": n, "name": label} for label, n in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

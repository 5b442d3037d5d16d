"""Boxes by name: slices of a volume, drawn shapes, or a user's own boxes."""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medjax.data.audit.facts import look_plainly
from medjax.data.audit.records import LookFn, Sample
from medjax.data.batches import Parts
from medjax.data.boxes.formats.asking import ASKING, Asking
from medjax.data.boxes.formats.table import box_entries
from medjax.data.boxes.row_views import row_views
from medjax.data.boxes.rows import Row, box_rows, grouped_rows
from medjax.data.boxes.slices import Look, atlas_views
from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.boxes.views import Views
from medjax.data.lists.missing import missing_source
from medjax.data.lists.parts import HeldOut, honest_parts
from medjax.data.lists.pixels import picture_contents
from medjax.data.lists.reading import PLAIN, Reading, check_built_in
from medjax.data.lists.rows import Rows
from medjax.data.prompting.layout import Geometry
from medjax.data.volumes.packs import pack_sums
from medjax.data.volumes.table import VOLUMES, Volume

_SYNTHETIC = "synthetic"
_COUNTS = (2048, 64)  # drawn pictures to train and to test on


def load_parts(
    source: str,
    *,
    look: Look,
    split: str,
    held: HeldOut,
    geometry: Geometry,
    reading: Reading = PLAIN,
    decode: LookFn | None = look_plainly,
    asking: Asking = ASKING,
    volumes: Mapping[str, Volume] = VOLUMES,
) -> Parts[Views]:
    """The training and the test part of a source.

    Args:
        source: A name of `volumes` (slices with boxes, from data packs), "synthetic"
            (shapes drawn here), or the path of a list or folder, see `box_entries`.
        look: How slices of a volume are shown; of drawn shapes its `size` and
            `phrasings`. A user's pictures have their own size. `mirror` is left out
            for a volume whose sides would be confused, and `tested` is that of `held`.
        split: How a volume's slices are split: "slices", "moved", "side" or
            "structure", see `slices.atlas_views`.
        held: Which part is tested, and the share of a user's patients (or images) in
            it. Its seed also decides which structures a split tests on.
        geometry: How images are cut, which a user's boxes may be measured in.
        reading: How a user's file is read: wrong lines, readers, groups.
        decode: Decodes a user's pictures beforehand: those with equal pixels lie in one
            part, and none fails in training. None does not.
        asking: What is asked about a user's list that has no questions. Its
            `structures` are those of a volume too: a word that it knows ("all", and of
            the brain "aal", "clear" and "unions"), or names.
        volumes: The volumes known by name; yours may be among them.

    Raises:
        FileNotFoundError: The source is neither a name nor a path.
        ValueError: What `atlas_views`, `synthetic_views`, `box_rows` or `part_lines`
            refuse.
    """
    look = look._replace(tested=held.tested)
    if source in (*volumes, _SYNTHETIC):
        check_built_in(source, reading)
    if source == _SYNTHETIC:
        return _drawn_parts(look, reading)
    if source in volumes:
        look = look._replace(mirror=look.mirror and volumes[source].mirror)
        parts = _volume_parts(
            source,
            volumes[source],
            asking.structures,
            look,
            split=split,
            seed=held.seed,
        )
        return parts._replace(identity={**parts.identity, **_kind(reading)})
    if not source or not Path(source).exists():
        known = (*volumes, _SYNTHETIC)
        raise missing_source(
            source, known, "data source", "a user's file or folder of boxes"
        )
    entries = box_entries(Path(source), reading, asking)
    rows = box_rows(entries, reading, geometry, decode)
    return _user_parts(Path(source), rows, reading, held)


def _drawn_parts(look: Look, reading: Reading) -> Parts[Views]:
    """Both parts of drawn shapes."""
    train, test = (
        synthetic_views(
            count=count,
            size=look.size,
            part=part,
            num_phrasings=look.phrasings,
            sets=_kind(reading) != {},
        )
        for part, count in zip(("train", look.tested), _COUNTS, strict=True)
    )
    identity = {"source": _SYNTHETIC, "size": list(look.size), "test": look.tested}
    return Parts(train, test, identity | _kind(reading))


def _kind(reading: Reading) -> dict[str, str]:
    """What the identity says of answers: nothing where they are one box each."""
    return {} if reading.answers == "one" else {"answers": reading.answers}


def _user_parts(
    source: Path,
    found: Rows[Row],
    reading: Reading,
    held: HeldOut,
) -> Parts[Views]:
    root = source if source.is_dir() else source.parent
    rows, near = found.rows, reading.near == "group"
    lines = grouped_rows(rows, root, picture_contents(found.pictures, near=near))
    parted = honest_parts(lines, reading, held, dropped=found.dropped)
    parting = parted.parting
    train, test = (row_views([rows[n] for n in part]) for part in parting)
    identity = {
        "source": "records",
        "rows": len(rows),
        "sha256": _digest(found, root),
        "test": [
            *(len(parting.test), held.tested, held.share, held.seed, reading.near)
        ],
        **_kind(reading),
    }
    samples = tuple(
        Sample(
            origin=row.origin,
            part=part,
            images=row.images,
            group=group,
            groups=row.groups,
            labels=(row.label,),
            size=row.sizes[-1],
            boxes=row.boxes,
        )
        for row, part, group in zip(rows, parted.parts, parted.groups, strict=True)
    )
    dropped = found.dropped + parted.dropped
    notes = (str(found.agreement),) if found.agreement else ()
    return Parts(train, test, identity, samples, dropped, notes, found.pictures)


def _volume_parts(
    name: str,
    volume: Volume,
    structures: str | Sequence[str],
    look: Look,
    *,
    split: str,
    seed: int,
) -> Parts[Views]:
    """Both parts of a volume's slices; the test is never mirrored."""
    names = structures if isinstance(structures, str) else tuple(structures)
    chosen = volume.select(names)
    atlas = volume.load()
    train, test = (
        atlas_views(
            atlas,
            names=chosen,
            modality=volume.modality,
            split=split,
            part=part,
            look=shown,
            seed=seed,
        )
        for part, shown in (("train", look), ("test", look._replace(mirror=False)))
    )
    identity = {
        "source": name,
        "packs": pack_sums(volume.packs),
        "structures": list(chosen),
        **look._asdict(),
        "split": split,
    }
    return Parts(train, test, identity)


def _digest(found: Rows[Row], root: Path) -> str:
    """Of what the lines say and the pictures show, wherever the folder lies."""
    content: list[Any] = [
        row._asdict()
        | {"images": [(os.path.relpath(x.path, root), *x[1:]) for x in row.images]}
        | {"digests": None}  # some are places
        for row in found.rows
    ]
    files = dict.fromkeys(x for row in found.rows for x in row.images)
    if found.pictures is None:
        content.append([zlib.crc32(file.path.read_bytes()) for file in files])
    else:
        content.append([found.pictures.facts[file].digest for file in files])
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()

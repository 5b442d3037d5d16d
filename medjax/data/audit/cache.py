"""Facts of pictures between runs: one file a data set, in the user's cache folder.

No path is kept, only a hash of path, size and time of change; but a small grey picture
of each is, so the file can be read by its owner alone.
"""

import contextlib
import hashlib
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL

from medjax.data.audit.records import THUMB, Facts
from medjax.data.images import ImageFile

_VERSION = 2  # raised when `read_image` shows other pixels, or facts are others
_MOST = 1_000_000  # facts in a file; beyond it those of other runs are dropped
_COLUMNS = {  # name: (kind of number, axes after the first)
    "key": (np.uint8, (16,)),
    "digest": (np.uint8, (32,)),
    "size": (np.int32, (2,)),
    "hash": (np.uint64, ()),
    "contrast": (np.uint8, ()),
    "colour": (np.bool_, ()),
    "thumb": (np.uint8, (THUMB * THUMB,)),
    "levels": (np.uint8, (16,)),
}


def file_stamp(file: ImageFile) -> bytes | None:
    """16 bytes for path, part, size and time of change; None where there is no file.

    Args:
        file: The picture; its path is taken as it is, links are not followed.
    """
    try:
        state = os.stat(file.path)
    except OSError:
        return None
    parts = (
        _VERSION,
        PIL.__version__,
        os.path.abspath(file.path),
        *file[1:],
        state.st_size,
        state.st_mtime_ns,
    )
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(
        text.encode("utf-8", "surrogateescape"), digest_size=16
    ).digest()


def load_facts(path: Path) -> dict[bytes, Facts]:
    """The facts that a file remembers by key; {} where it is not there or damaged.

    Args:
        path: What `store_facts` wrote.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            read = {name: arrays[name] for name in _COLUMNS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    count = read["key"].shape[:1]
    for name, (kind, axes) in _COLUMNS.items():
        if read[name].dtype != kind or read[name].shape != (*count, *axes):
            return {}
    rows = zip(
        map(bytes, read["key"]),
        map(bytes, read["digest"]),
        read["size"].tolist(),
        read["hash"].tolist(),
        read["contrast"].tolist(),
        read["colour"].tolist(),
        map(bytes, read["thumb"]),
        map(bytes, read["levels"]),
        strict=True,
    )
    return {
        key: Facts(digest.hex(), (size[0], size[1]), *rest)
        for key, digest, size, *rest in rows
    }


def store_facts(path: Path, facts: Mapping[bytes, Facts]) -> bool:
    """Add facts to a file; whether that could be done.

    The file is replaced as a whole: of two runs that write at once one may lose what it
    added, and no reader ever sees half of a file.

    Args:
        path: The file; its folder is made if it can be.
        facts: By key; they take the place of what the file says of those keys.
    """
    every = {**load_facts(path), **facts}
    if len(every) > _MOST:
        every = dict(facts)
    values = list(every.values())
    columns = {
        "key": b"".join(every),
        "digest": b"".join(bytes.fromhex(one.digest) for one in values),
        "size": [one.size for one in values],
        "hash": [one.hash for one in values],
        "contrast": [one.contrast for one in values],
        "colour": [one.colour for one in values],
        "thumb": b"".join(one.thumb for one in values),
        "levels": b"".join(one.levels for one in values),
    }
    arrays = {}
    for name, (kind, axes) in _COLUMNS.items():
        value = columns[name]
        flat = np.frombuffer(value, kind) if isinstance(value, bytes) else value
        arrays[name] = np.asarray(flat, kind).reshape(len(every), *axes)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(temporary, "xb", opener=_private) as file:
            np.savez(file, **arrays)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

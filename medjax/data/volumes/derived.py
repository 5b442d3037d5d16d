"""Arrays derived from data packs, made once and kept beside them."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from medjax.data.volumes.packs import cache_dir


def derived(
    name: str,
    recipe: object,
    make: Callable[[], Mapping[str, Shaped[np.ndarray, "..."]]],
    *,
    cache: str | os.PathLike[str] | None,
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays that `make` gives, read from the cache where they are already.

    Args:
        name: The file's name begins with it, so that people know what it holds.
        recipe: All that the arrays depend on, such as a version of the code and
            checksums; its `repr` chooses the file.
        make: Called only where the file is not there yet.
        cache: The folder above `derived`; None takes the usual one, see `cache_dir`.
    """
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
    path = cache_dir(cache) / "derived" / f"{name}-{digest}.npz"
    if not path.exists():
        arrays = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as temp:
            made = Path(temp) / path.name
            np.savez_compressed(made, **arrays)
            made.replace(path)
    with np.load(path, allow_pickle=False) as kept:
        return {key: kept[key] for key in kept.files}

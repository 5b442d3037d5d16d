"""What lists a user's images, and which of them are tested."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path


def find_list(path: str | os.PathLike[str], suffix: str) -> Path:
    """The file that lists the images: `path` itself, or the only one in that folder.

    Args:
        path: A file, which may have any name, or a folder.
        suffix: The ending that exactly one file of a folder must have, such as ".csv".

    Raises:
        FileNotFoundError: There is neither a file nor a folder.
        ValueError: The folder holds no such file, or several.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob(f"*{suffix}"))
        if len(files) != 1:
            raise ValueError(
                f"{path}: expected one {suffix} file in the folder, found {len(files)};"
                " name the file itself"
            )
        path = files[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected a {suffix} file or a folder with one"
        )
    return path


def groups_to_test(keys: Sequence[str], *, test_share: float, seed: int) -> set[str]:
    """The patients (or images) to test on: the first by a hash of seed and name.

    The order of the keys and how often each occurs do not matter.

    Args:
        keys: The patient, or else the image, of each line.
        test_share: The share of the different keys that is tested, 0 to 1, rounded up.
        seed: Goes into the hash, so that another seed chooses others.

    Raises:
        ValueError: One of the two parts would be empty.
    """

    def rank(key: str) -> str:
        return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()

    groups = sorted(set(keys), key=rank)
    test = set(groups[: math.ceil(test_share * len(groups))])
    if not 0 < len(test) < len(groups):
        raise ValueError(
            f"{len(groups)} patients or images and test_share={test_share} leave "
            "nothing to train or to test on; expected at least one of each"
        )
    return test

"""What one line of a user's list of labels says, in any format."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from medjax.data.images import ImageFile


class LabelEntry(NamedTuple):
    """A picture and what it is, as the file says it, not yet checked."""

    origin: str  # "labels.csv, line 3"
    image: ImageFile
    labels: tuple[str, ...]  # one; several or none only of a task with sets of labels
    groups: Mapping[str, str]  # whose it is: {"patient": "p017", "lesion": ...}
    split: str | None  # "train", "val" or "test" where the file says so
    reader: str | None  # who labelled it, where several did
    columns: Mapping[str, Any]  # for rewards in Python

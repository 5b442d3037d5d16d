"""What one line of a user's list of boxes says, in any format."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from medjax.data.images import ImageFile

Box = tuple[float, float, float, float]


class BoxEntry(NamedTuple):
    """A question about pictures and its answer, as the file says it, not yet checked.

    Several lines may ask the same of the same pictures, one box each: `box_rows` makes
    one row of them.
    """

    origin: str  # "records.jsonl, line 3"
    images: tuple[ImageFile, ...]  # shown together; boxes lie in the last
    query: str
    boxes: tuple[Box, ...]  # edges (x1, y1, x2, y2); none: asked for and not there
    frame: str  # what they are measured in, of `rl.boxes.FRAMES`
    label: str
    groups: Mapping[str, str]  # whose they are: {"patient": "p017", "study": ...}
    split: str | None  # "train", "val" or "test" where the file says so
    reader: str | None  # who drew them, where several did
    size: tuple[int, int] | None  # (height, width) of the last image, if declared
    columns: Mapping[str, Any]  # for rewards in Python

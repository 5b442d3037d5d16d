"""What is known of a user's picture once it was decoded, and of a row of their data."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from medjax.data.images import ImageFile

THUMB = 32  # pixels a side of the small picture that copies are compared by


class Facts(NamedTuple):
    """What decoding one picture told."""

    digest: str  # of shape and pixels: equal pictures have equal ones
    size: tuple[int, int]  # (height, width) as shown, after turning
    hash: int  # 64 bits that change little where a picture changes little
    contrast: int  # grey levels, 0 to 255, between its darkest and brightest half %
    colour: bool  # whether its three channels differ
    thumb: bytes  # THUMB x THUMB greys, rows first
    levels: bytes = b""  # 16 that stand for how often each level occurs in each channel


class Pair(NamedTuple):
    """Two pictures by their place in the list, and how alike they are."""

    first: int
    second: int
    bits: int  # in which the hashes differ
    correlation: float  # of the small pictures
    turn: str = ""  # what makes the second the first's copy: "mirrored"; "": nothing


class Pictures(NamedTuple):
    """What became of the pictures that were asked for."""

    facts: Mapping[ImageFile, Facts]  # of those that can be read
    problems: Mapping[ImageFile, str]  # of the others: why, with their origin
    decoded: int  # how many had to be read, the rest was remembered
    # Pairs that are nearly equal, by place in `facts`; None: not looked for yet.
    near: tuple[Pair, ...] | None = None


# Facts of the files of a mapping, each with what an error calls the line that names it.
LookFn = Callable[[Mapping[ImageFile, str]], Pictures]


class Sample(NamedTuple):
    """A row of a user's data as a run has it: a question about boxes, or a picture."""

    origin: str  # "records.jsonl, line 3"
    part: str  # "train" or "test"; "" where the run uses it for neither
    images: tuple[ImageFile, ...]  # shown together
    group: str  # whose it is, joined over all columns that say so
    groups: Mapping[str, str]  # what those columns say
    labels: tuple[str, ...]  # of a box its structure
    size: tuple[int, int]  # (height, width) of the last image as it came
    boxes: tuple[tuple[float, float, float, float], ...] = ()  # in its pixels

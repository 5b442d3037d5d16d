"""What a policy is asked: a question, a file of them, or a file that says of what."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medjax.data.images import ImageFile
from medjax.data.lists import cells
from medjax.data.lists.files import decode_list, json_lines
from medjax.data.lists.images import object_image
from medjax.data.lists.reading import Bad

_LINES, _OBJECTS = (".txt",), (".jsonl",)
_OTHERS = (".csv", ".tsv", ".json", ".xlsx", ".yaml", ".yml")  # no question ends so
_KEYS = ("image", "query")


class Questions(NamedTuple):
    """Questions about every picture, or about the pictures that a file names."""

    everywhere: tuple[str, ...]
    # (what an error calls the line, image, question); paths are relative
    named: tuple[tuple[str, ImageFile, str], ...] = ()


def read_questions(ask: str) -> Questions:
    """The questions that `--ask` stands for, each once and in their order.

    Args:
        ask: A question; or a text file with one a line, blank lines left out; or a
            JSONL file whose lines have an `image`, a path or an object with `path`,
            `frame` and `plane`, and a `query` about it.

    Raises:
        FileNotFoundError: It ends as a file of questions does, and there is none.
        ValueError: The question, or a line of the file, is empty, no text, or holds a
            token of prompts; or the file has no line, or is of another kind.
    """
    path = Path(ask)
    suffix = path.suffix.lower()
    try:
        found = path.is_file()
    except OSError:  # a question may be too long for a name
        found = False
    if not found:
        if suffix in (*_LINES, *_OBJECTS, *_OTHERS):
            raise FileNotFoundError(
                f"--ask={ask}: no such file; expected a question, a text file with one "
                "a line, or a JSONL file with image and query"
            )
        return Questions((check_question(ask, "--ask"),))
    if suffix not in ("", *_LINES, *_OBJECTS):
        raise ValueError(
            f"--ask={ask}: files {suffix} are not read; expected a text file with a "
            "question a line, named .txt, or JSONL lines with image and query in a "
            "file named .jsonl"
        )
    if suffix in _OBJECTS:
        return Questions((), _objects(path))
    lines = decode_list(path).splitlines()
    texts = [
        check_question(line, f"{path.name}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not texts:
        raise ValueError(
            f"{path.name}: no questions; expected one a line, or JSONL lines with "
            "image and query in a file named .jsonl"
        )
    return Questions(tuple(dict.fromkeys(texts)))


def check_question(text: str, origin: str) -> str:
    """A question in Unicode's form NFC without blanks round it.

    Args:
        text: As it was written.
        origin: What an error calls the place.

    Raises:
        ValueError: It is empty, or holds what cannot be shown or a token of prompts.
    """
    return cells.text(text, origin, "the question")


def _objects(path: Path) -> tuple[tuple[str, ImageFile, str], ...]:
    found: dict[tuple[ImageFile, str], str] = {}
    for line in json_lines(path):
        if isinstance(line, Bad):
            raise ValueError(line.message)
        entry, origin = line.cells, line.origin
        missing = [key for key in _KEYS if key not in entry]
        if missing:
            raise ValueError(
                f"{origin}: no {' and no '.join(missing)}; expected an object with "
                "image and query"
            )
        image = object_image(entry["image"], Path(), origin)
        query = cells.text(entry["query"], origin, "query")
        found.setdefault((image, query), origin)
    return tuple((origin, *key) for key, origin in found.items())


def by_image(
    questions: Questions, images: Sequence[ImageFile], root: Path
) -> dict[ImageFile, tuple[str, ...]]:
    """The questions about each image, in the images' order; those without are left out.

    Args:
        questions: From `read_questions`.
        images: What there is, each path beginning with `root`.
        root: What the paths of a file of questions start from.

    Raises:
        ValueError: A line names an image that is not among them.
    """
    if not questions.named:
        return dict.fromkeys(images, questions.everywhere)
    known = set(images)
    asked: dict[ImageFile, list[str]] = {}
    for origin, image, query in questions.named:
        whole = image._replace(path=root / image.path)
        if whole not in known:
            raise ValueError(f"{origin}: {_missing(whole, images)}")
        asked.setdefault(whole, []).append(query)
    return {image: tuple(asked[image]) for image in images if image in asked}


def _missing(image: ImageFile, images: Sequence[ImageFile]) -> str:
    """Why an image is not there, and what would be."""
    same = [x for x in images if x.path == image.path]
    if not same:
        return (
            f"no image {image.path.name} in --input; expected a path from --input's "
            "folder"
        )
    frames = [x.frame for x in same if x.frame is not None]
    if not frames:
        return f"{image.path.name} holds one image; expected no frame and no plane"
    plane = f" in the plane {same[0].plane!r} (predict.plane)" * bool(same[0].plane)
    return (
        f"{image.path.name} holds {len(frames)} images{plane}; expected a frame from 0 "
        f'to {len(frames) - 1}, as {{"path": ..., "frame": 0}}'
    )

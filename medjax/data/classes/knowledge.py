"""What is known of each class, in words: VRFT-Aug's prompt augmentation.

One short paragraph a class (shape, border, texture, grey or colour, location, size), in
a JSON file beside the data, the same text for training and test:

    {"task": "ct_organ", "sources": ["..."],
     "classes": {"heart": "a large rounded muscle ...", "aorta": "..."}}

`sources` says where the words come from; neither it nor `task` need be there in a file
of one's own, whose `task` is for its readers: the classes alone must fit.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medjax.data.classes.tasks import Wording, wording_texts
from medjax.data.json_files import read_json
from medjax.data.prompting.chat import Style, encode, prompt_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FOLDER = Path(__file__).parent / "descriptions"
_KEYS = ("task", "sources", "classes")
_MARKUP = ("<|", "<think>", "</think>", "<answer>", "</answer>")


class Descriptions(NamedTuple):
    """A task's descriptions, checked."""

    texts: tuple[str, ...]  # in the order of the classes
    sources: tuple[str, ...]
    sha256: str  # of the texts, for a run's identity


def built_in_descriptions() -> tuple[str, ...]:
    """Names of the tasks and data sets that have descriptions here, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def load_descriptions(
    source: str | os.PathLike[str], classes: Sequence[str]
) -> Descriptions:
    """Descriptions by the name of a built-in file, or from a JSON file of one's own.

    Args:
        source: One of `built_in_descriptions`, or the path of a JSON file
            {"classes": {"heart": "a large rounded muscle ..."}}.
        classes: The names of all classes, each of which needs one description; the
            texts come in their order.

    Raises:
        FileNotFoundError: The source is neither.
        ValueError: The file is no such JSON in UTF-8, or is a built-in one of another
            task; a class has no description or a description no class; or one is empty,
            has a prompt's markup, or is the same for two classes.
    """
    path = _FOLDER / f"{source}.json"
    built_in = path.is_file()
    if not built_in:
        path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"descriptions {str(source)!r}: expected one of "
            f"{', '.join(built_in_descriptions())}, or the path of a JSON file"
        )
    content = _read(path)
    if built_in and content.get("task") != path.stem:
        raise ValueError(
            f"{path}: expected the task {path.stem!r}, found {content.get('task')!r}; "
            "correct the file, or name one of your own by its path"
        )
    given = content["classes"]
    missing = [name for name in classes if name not in given]
    unknown = [name for name in given if name not in classes]
    if missing or unknown:
        raise ValueError(
            f"{path}: no description of {missing}, and descriptions of {unknown}, "
            f"which are no classes; expected one of each of {list(classes)}"
        )
    for name, text in given.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"{path}: the description of {name!r} is {text!r}; expected a sentence"
            )
        markup = [mark for mark in _MARKUP if mark in text]
        if markup:
            raise ValueError(
                f"{path}: the description of {name!r} holds {markup[0]}, which belongs "
                "to prompts and answers; take it out"
            )
    texts = tuple(" ".join(given[name].split()) for name in classes)
    first: dict[str, str] = {}
    for name, text in zip(classes, texts, strict=True):
        if first.setdefault(text, name) != name:
            raise ValueError(
                f"{path}: {first[text]!r} and {name!r} have the same description "
                f"{text!r}; expected texts that tell the classes apart"
            )
    return Descriptions(texts, tuple(content.get("sources", ())), text_digest(texts))


def text_digest(texts: Sequence[str]) -> str:
    """A checksum of texts in their order: SHA-256 in hexadecimal digits.

    Args:
        texts: Any number of texts; where one ends and the next begins counts.
    """
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def wording_identity(wording: Wording) -> dict[str, str | int]:
    """What of the words of a task a resumed run, and a later test, must find unchanged.

    Args:
        wording: The words of the task.

    Returns:
        Checksums and numbers that JSON can hold, by name.
    """
    found: dict[str, str | int] = {
        "classes": text_digest(wording.task.classes),
        "knowledge": text_digest(wording.knowledge or ()),
        "reasons": text_digest(wording.reasons),
        "phrasings": wording.phrasings,
    }
    return found | ({"multi": True} if wording.task.multi else {})


def check_same_wording(train: Mapping[str, Any], test: Mapping[str, Any]) -> None:
    """Refuse to test in other words than those that were trained with.

    Args:
        train: The `wording_identity` of the training.
        test: That of the test.

    Raises:
        ValueError: They differ; what differs is named.
    """
    differ = sorted(k for k in {*train, *test} if train.get(k) != test.get(k))
    if differ:
        raise ValueError(
            f"training and test differ in their {', '.join(differ)}: a policy must be "
            "tested with the words that it was trained with"
        )


def short_reasons(texts: Sequence[str], words: int) -> tuple[str, ...]:
    """The first words of each description: a reasoning short enough for tiny policies.

    >>> short_reasons(["A bright, round vessel."], 3)
    ('A bright, round',)

    Args:
        texts: The descriptions, in the order of the classes.
        words: How many words are kept at most, 1 or more; less is a ValueError.
    """
    if words < 1:
        raise ValueError(f"{words} words of reasoning; expected 1 or more")
    cut = (" ".join(text.split()[:words]) for text in texts)
    return tuple(text.rstrip(",;:.") for text in cut)


def check_question_length(
    tokenizer: "PreTrainedTokenizerBase",
    wording: Wording,
    planes: Sequence[str],
    *,
    style: Style,
    length: int,
) -> int:
    """Tokens of the longest question, knowledge included.

    Args:
        tokenizer: The policy's own, since it decides how many tokens a text has.
        wording: The words of the task.
        planes: Every plane that a question may name; ("",) where none does.
        style: The words around each question.
        length: How many tokens a question may have.

    Returns:
        The number of tokens, which is at most `length`.

    Raises:
        ValueError: The longest has more. The message says how many of them the
            knowledge takes, and of which class the most.
    """
    longest = _longest(tokenizer, wording, planes, style)
    if longest <= length:
        return longest
    if wording.knowledge is None:
        raise ValueError(
            f"task {wording.task.name}: a question takes {longest} tokens, and there "
            f"is room for {length}; raise the length to {longest}"
        )
    bare = _longest(tokenizer, wording._replace(knowledge=None), planes, style)
    each = [len(encode(tokenizer, text)) for text in wording.knowledge]
    name = wording.task.classes[each.index(max(each))]
    raise ValueError(
        f"task {wording.task.name}: a question takes {longest} tokens, "
        f"{longest - bare} of them descriptions (the longest is that of {name!r}, "
        f"{max(each)}), and there is room for {length}; shorten them or raise the "
        f"length to {longest}"
    )


def _longest(
    tokenizer: "PreTrainedTokenizerBase",
    wording: Wording,
    planes: Sequence[str],
    style: Style,
) -> int:
    texts = wording_texts(wording, planes, answer=style.answer)
    _, questions = prompt_text(texts, images=1, style=style)
    return max(len(encode(tokenizer, text)) for text in questions)


def _read(path: Path) -> dict[str, Any]:
    shape = '{"task": ..., "sources": [...], "classes": {"NAME": "TEXT", ...}}'
    content = read_json(path, expected=shape)
    if not isinstance(content, dict) or not isinstance(content.get("classes"), dict):
        raise ValueError(f"{path}: expected {shape}, found {str(content)[:60]!r}")
    unknown = [key for key in content if key not in _KEYS]
    if unknown or not content["classes"]:
        raise ValueError(
            f"{path}: unknown keys {unknown}, {len(content['classes'])} classes; "
            f"expected {shape}"
        )
    sources = content.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(x, str) for x in sources):
        raise ValueError(
            f"{path}: sources {str(sources)[:60]!r}; expected a list of texts: "
            '"sources": ["..."]'
        )
    return content

"""What a checkpoint folder says of generation: its ends, its padding, how to draw.

The ids of special tokens stand in up to four files of a folder (config.json,
generation_config.json, tokenizer_config.json, special_tokens_map.json). They are read
from all, and refused where they contradict each other.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medjax.data.json_files import read_json
from medjax.data.prompting.tokenizer import STOP_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG, GENERATION = "config.json", "generation_config.json"
_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_ROLES = ("eos", "pad", "bos")
# Keys of config.json, the id that an absent key stands for, and the token it must be.
PLACES = {
    "image_token_id": (151655, "<|image_pad|>"),
    "video_token_id": (151656, "<|video_pad|>"),
    "vision_start_token_id": (151652, "<|vision_start|>"),
    "vision_end_token_id": (151653, "<|vision_end|>"),
}


class Drawing(NamedTuple):
    """How generation_config.json says to draw tokens; None where it says nothing.

    Training never reads it: the distribution that is sampled there is the policy's. It
    is kept, with the policy and in its exported folder, for those who predict with it.
    """

    do_sample: bool | None = None  # False: the most likely token
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None  # above 1 makes repeats less likely


class TokenIds(NamedTuple):
    """The ids that end, pad and begin a text."""

    eos: tuple[int, ...]  # any of them ends a completion
    pad: int
    bos: int | None  # recorded and exported; prompts have none


class _Said(NamedTuple):
    where: str  # file and key
    ids: tuple[int, ...]


def read_drawing(folder: str | Path) -> Drawing:
    """How a folder's generation_config.json says to draw; all None without the file.

    Args:
        folder: A Hugging Face folder.

    Raises:
        ValueError: The file is no JSON object, or holds a value of another kind.
    """
    path = Path(folder) / GENERATION
    content = _document(path)
    numbers = {
        "temperature": 0.0,  # and the least that each may be
        "top_k": 0,
        "top_p": 0.0,
        "repetition_penalty": 0.0,
    }
    for key, least in numbers.items():
        value = content.get(key)
        kinds = (int,) if key == "top_k" else (int, float)
        if value is not None and not (
            type(value) in kinds and least <= value < math.inf
        ):
            raise ValueError(
                f"{path}: {key} is {value!r}, expected a number of {least} or more"
            )
    do_sample = content.get("do_sample")
    if do_sample is not None and not isinstance(do_sample, bool):
        raise ValueError(f"{path}: do_sample is {do_sample!r}, expected true or false")
    return Drawing(do_sample, **{key: content.get(key) for key in numbers})


def read_token_ids(
    folder: str | Path, tokenizer: "PreTrainedTokenizerBase"
) -> TokenIds:
    """The ids that end, pad and begin a text, as the folder's files agree on them.

    The ends are all ids of generation_config.json, which those of the other files must
    be among; in a folder without that file they are Qwen2.5-VL's two, <|im_end|> and
    <|endoftext|>. Padding is <|endoftext|> where no file names it.

    Args:
        folder: A Hugging Face folder with a config.json.
        tokenizer: The one that was read from it.

    Raises:
        ValueError: Two files contradict each other, an id is no token of the tokenizer,
            <|im_end|> ends nothing, or config.json gives images another token than the
            tokenizer; files, keys and both values are named.
    """
    folder = Path(folder)
    config = _document(folder / CONFIG)
    text = config.get("text_config")
    stated: dict[str, list[_Said]] = {}
    for role in _ROLES:
        key = f"{role}_token_id"
        places = [(f"{folder / GENERATION}: {key}", _document(folder / GENERATION))]
        places.append((f"{folder / CONFIG}: {key}", config))
        if isinstance(text, dict):
            places.append((f"{folder / CONFIG}: text_config.{key}", text))
        said = [_ids(where, part[key]) for where, part in places if _has(part, key)]
        stated[role] = said + _of_tokenizer(folder, tokenizer, f"{role}_token")
    _check_places(folder / CONFIG, config, tokenizer)
    stop, default_pad = (
        int(tokenizer.convert_tokens_to_ids(token)) for token in STOP_TOKENS
    )
    pad, bos = (_one(stated[role], role) for role in ("pad", "bos"))
    ids = TokenIds(
        eos=_ends(folder, stated["eos"], (stop, default_pad)),
        pad=default_pad if pad is None else pad,
        bos=bos,
    )
    if stop not in ids.eos:
        raise ValueError(
            f"{folder}: its ends {list(ids.eos)} are without <|im_end|> ({stop}), with "
            f"which the chat template ends an answer; add it to eos_token_id of "
            f"{GENERATION}"
        )
    _check_known(stated, tokenizer)
    if ids.pad == tokenizer.convert_tokens_to_ids("<|image_pad|>"):
        raise ValueError(
            f"{folder}: pad_token_id {ids.pad} is the image token <|image_pad|>; set "
            f"it to {default_pad} (<|endoftext|>) in its files"
        )
    return ids


def generation_document(ids: TokenIds, drawing: Drawing) -> dict[str, Any]:
    """The content of generation_config.json.

    Args:
        ids: The policy's ends, padding and beginning.
        drawing: What it says of drawing; None is left out.
    """
    content = {
        "bos_token_id": ids.bos,
        "eos_token_id": list(ids.eos),
        "pad_token_id": ids.pad,
        **drawing._asdict(),
    }
    return {key: value for key, value in content.items() if value is not None}


def _document(path: Path) -> Mapping[str, Any]:
    """An object of a JSON file; {} where there is no such file."""
    if not path.is_file():
        return {}
    content = read_json(path, expected="an object")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, found {content!r}")
    return content


def _has(part: Mapping[str, Any], key: str) -> bool:
    return part.get(key) is not None


def _ids(where: str, value: Any) -> _Said:
    ids = value if isinstance(value, list) else [value]
    if not ids or any(type(i) is not int or i < 0 for i in ids):
        raise ValueError(f"{where} is {value!r}, expected an id, or a list of ids")
    return _Said(where, tuple(ids))


def _of_tokenizer(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", key: str
) -> list[_Said]:
    said = []
    for name in _TOKENIZER_FILES:
        token = _document(folder / name).get(key)
        text = token.get("content") if isinstance(token, dict) else token
        if text is None:
            continue
        where = f"{folder / name}: {key} {text!r}"
        number = tokenizer.convert_tokens_to_ids(text) if type(text) is str else None
        known = number is not None and tokenizer.convert_ids_to_tokens(number) == text
        if number is None or not known:
            raise ValueError(f"{where} is no token of the folder's tokenizer")
        said.append(_Said(where, (number,)))
    return said


def _one(said: list[_Said], role: str) -> int | None:
    """The id that all agree on; None where none says."""
    first = said[0] if said else None
    for other in said:
        if first is not None and other.ids != first.ids:
            raise ValueError(_contradiction(first, other))
        if len(other.ids) > 1:
            raise ValueError(f"{other.where} is {list(other.ids)}, expected one {role}")
    return None if first is None else first.ids[0]


def _ends(folder: Path, said: list[_Said], usual: tuple[int, int]) -> tuple[int, ...]:
    first = _Said(f"{folder} without {GENERATION}: the ends of Qwen2.5-VL", usual)
    if said and GENERATION in said[0].where:
        first = said[0]
    for other in said:
        if not set(other.ids) <= set(first.ids):
            raise ValueError(_contradiction(first, other))
    return tuple(dict.fromkeys(first.ids))


def _contradiction(one: _Said, other: _Said) -> str:
    ids = (x.ids[0] if len(x.ids) == 1 else list(x.ids) for x in (one, other))
    mine, theirs = ids
    return (
        f"{one.where} is {mine}, but {other.where} is {theirs}: a policy generates "
        "otherwise by the one than by the other; correct the file that it was not "
        "trained with"
    )


def _check_known(
    stated: Mapping[str, list[_Said]], tokenizer: "PreTrainedTokenizerBase"
) -> None:
    for said in (one for row in stated.values() for one in row):
        unknown = [i for i in said.ids if i >= len(tokenizer)]
        if unknown:
            raise ValueError(
                f"{said.where} is {list(said.ids)}, but the folder's tokenizer has no "
                f"token {unknown}: it has {len(tokenizer)}"
            )


def _check_places(
    path: Path, config: Mapping[str, Any], tokenizer: "PreTrainedTokenizerBase"
) -> None:
    """config.json must give images the tokens of the tokenizer."""
    for key, (default, token) in PLACES.items():
        found, ours = config.get(key), tokenizer.convert_tokens_to_ids(token)
        known = ours is not None and tokenizer.convert_ids_to_tokens(ours) == token
        if known and (default if found is None else found) != ours:
            value = f"absent, which means {default}," if found is None else repr(found)
            raise ValueError(
                f"{path}: {key} is {value} but {token} is {ours} in the folder's "
                f"tokenizer: transformers would put no image there; set it to {ours}"
            )

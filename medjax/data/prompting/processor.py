"""How a checkpoint folder says that images become numbers: its image processor.

It stands in preprocessor_config.json, or as transformers 5 saves it in the part
`image_processor` of processor_config.json. An absent key means what it means to
transformers, the default of the class `Qwen2VLImageProcessor`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.json_files import read_json
from medjax.data.prompting.layout import MEAN, STD, Geometry

PROCESSOR, NESTED = "preprocessor_config.json", "processor_config.json"
TYPES = (
    "Qwen2VLImageProcessor",
    "Qwen2VLImageProcessorFast",
    "Qwen2VLImageProcessorPil",
    "Qwen2_5_VLImageProcessor",
)
_BICUBIC = 3  # of PIL
_SIZES = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
_MIN, _MAX = 56 * 56, 28 * 28 * 1280  # pixels
_LEAST = 1e-30  # what is divided by, in float32
_OFF = ("do_center_crop", "do_pad")  # steps that we do not have


class Processor(NamedTuple):
    """What a folder's image processor does."""

    source: str  # the file, for messages
    patch_size: int  # pixels
    merge_size: int  # patches a side of a feature
    temporal_patch_size: int  # times a still image is repeated
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    levels: float  # what pixels are divided by: 1 / rescale_factor
    min_pixels: int
    max_pixels: int
    # how one file's two spellings of the bounds differ; "": they do not
    disagreement: str


def read_processor(folder: str | Path) -> Processor | None:
    """The image processor of a checkpoint folder; None where no file describes one.

    `do_rescale` and `do_normalize` that are off are levels of 1, a mean of 0 and a
    standard deviation of 1. Bounds are `min_pixels` and `max_pixels` or, where these
    are absent, `size.shortest_edge` and `size.longest_edge`, which are pixels too; the
    first spelling goes before the second, as in transformers.

    Args:
        folder: A Hugging Face folder.

    Raises:
        ValueError: A file is no JSON object, holds a value of another kind, asks for a
            step that medjax does not have (no resizing, another resampling than
            bicubic, cropping, padding), or two files contradict each other.
    """
    found = []
    for name, part in ((NESTED, "image_processor"), (PROCESSOR, None)):
        path = Path(folder) / name
        if not path.is_file():
            continue
        content = read_json(path, expected="the options of an image processor")
        if not isinstance(content, dict):
            raise ValueError(f"{path}: expected an object, found {content!r}")
        if part is None:
            found.append(_parse(str(path), content))
        elif isinstance(content.get(part), dict):
            found.append(_parse(f"{path}, {part}", content[part]))
    if len(found) == 2:
        _check_equal(*found)
    return found[0] if found else None


def processor_document(geometry: Geometry) -> dict[str, Any]:
    """The content of preprocessor_config.json that makes transformers do as we do.

    Args:
        geometry: How the policy's images become numbers.
    """
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "patch_size": geometry.patch,
        "merge_size": geometry.merge,
        "temporal_patch_size": geometry.temporal,
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": _BICUBIC,
        "min_pixels": geometry.min_pixels,
        "max_pixels": geometry.max_pixels,
        "size": {
            "shortest_edge": geometry.min_pixels,
            "longest_edge": geometry.max_pixels,
        },
        "do_rescale": True,
        "rescale_factor": 1 / geometry.levels,
        "do_normalize": True,
        "image_mean": list(geometry.mean),
        "image_std": list(geometry.std),
    }


def _parse(source: str, content: Mapping[str, Any]) -> Processor:
    kind = content.get("image_processor_type")
    if kind is not None and kind not in TYPES:
        raise ValueError(
            f"{source}: image_processor_type is {kind!r}, expected one of "
            f"{', '.join(TYPES)}: is the file of another model?"
        )
    _check_steps(source, content)
    sizes = {
        key: _whole(source, key, content.get(key), default)
        for key, default in _SIZES.items()
    }
    rescaled = _flag(source, content, "do_rescale")
    factor = content.get("rescale_factor", 1 / 255)
    if not _is_number(factor) or factor < _LEAST:
        raise ValueError(
            f"{source}: rescale_factor is {factor!r}, expected a number above 0"
        )
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if _flag(source, content, "do_normalize"):
        mean = _colours(source, "image_mean", content.get("image_mean"), MEAN)
        std = _colours(source, "image_std", content.get("image_std"), STD)
    if min(std) < _LEAST:
        raise ValueError(f"{source}: image_std is {std}, expected numbers above 0")
    bounds, disagreement = _bounds(source, content)
    return Processor(
        source=source,
        **sizes,
        image_mean=mean,
        image_std=std,
        levels=1 / factor if rescaled else 1.0,
        min_pixels=bounds[0],
        max_pixels=bounds[1],
        disagreement=disagreement,
    )


def _check_steps(source: str, content: Mapping[str, Any]) -> None:
    if not _flag(source, content, "do_resize"):
        raise ValueError(
            f"{source}: do_resize is false, but medjax always resizes to whole patches "
            "within the bounds of pixels; set it to true if the policy was trained so"
        )
    if content.get("resample", _BICUBIC) != _BICUBIC:
        raise ValueError(
            f"{source}: resample is {content['resample']!r}, but medjax resizes "
            f"bicubically ({_BICUBIC}); set it to {_BICUBIC} if the policy was trained "
            "so"
        )
    for key in _OFF:
        if content.get(key):
            raise ValueError(
                f"{source}: {key} is {content[key]!r}, a step that medjax does not "
                "have, nor Qwen2.5-VL; take the key out if the policy was trained so"
            )


def _bounds(source: str, content: Mapping[str, Any]) -> tuple[tuple[int, int], str]:
    size = content.get("size")
    size = {} if size is None else size
    known = {"shortest_edge", "longest_edge", "min_pixels", "max_pixels"}
    if not isinstance(size, dict) or set(size) - known:
        raise ValueError(
            f"{source}: size is {size!r}, expected shortest_edge and longest_edge, "
            "the least and the most pixels of an image"
        )
    bounds, differ = [], []
    for key, edge, default in (
        ("min_pixels", "shortest_edge", _MIN),
        ("max_pixels", "longest_edge", _MAX),
    ):
        spellings = {
            key: content.get(key),
            f"size.{edge}": size.get(edge),
            f"size.{key}": size.get(key),
        }
        said = {
            name: _whole(source, name, value, default)
            for name, value in spellings.items()
            if value is not None
        }
        bounds.append(next(iter(said.values()), default))
        if len(set(said.values())) > 1:
            differ.append(" but ".join(f"{name} is {n}" for name, n in said.items()))
    low, high = bounds
    if low > high:
        raise ValueError(
            f"{source}: images of at least {low} and at most {high} pixels: the least "
            "is above the most"
        )
    return (low, high), "; ".join(differ)


def _check_equal(one: Processor, other: Processor) -> None:
    for field in Processor._fields[1:-1]:
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine != theirs:
            raise ValueError(
                f"{one.source} and {other.source} contradict each other: {field} is "
                f"{mine} and {theirs}; transformers 5 reads the first, older versions "
                "the second: correct the one that the policy was not trained with"
            )


def _flag(source: str, content: Mapping[str, Any], key: str) -> bool:
    value = content.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{source}: {key} is {value!r}, expected true or false")
    return value is not False


def _whole(source: str, key: str, value: Any, default: int) -> int:
    if value is None:
        return default
    if type(value) is not int or value < 1:
        raise ValueError(f"{source}: {key} is {value!r}, expected a whole number >= 1")
    return value


def _colours(
    source: str, key: str, value: Any, default: tuple[float, float, float]
) -> tuple[float, float, float]:
    if value is None:
        return default
    numbers = value if isinstance(value, list) else [value] * 3
    if len(numbers) != 3 or not all(map(_is_number, numbers)):
        raise ValueError(
            f"{source}: {key} is {value!r}, expected a number for each of three colours"
        )
    red, green, blue = map(float, numbers)
    return red, green, blue


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e38  # of float32; not NaN

"""Image processors of checkpoint folders: read as transformers does, or refused."""

import json

import numpy as np
import pytest

from medjax.data.prompting.layout import MEAN, STD, Geometry, cut_patches, resize_image
from medjax.data.prompting.processor import processor_document, read_processor
from tests.oracles import qwen25vl_inputs as oracle

RELEASED = {  # what the released checkpoints say
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": list(MEAN),
    "image_std": list(STD),
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
}


def write(folder, content, name="preprocessor_config.json"):
    (folder / name).write_text(json.dumps(content))
    return folder


def test_the_released_file(tmp_path):
    found = read_processor(write(tmp_path, RELEASED))
    assert found._replace(source="") == (
        *("", 14, 2, 2, MEAN, STD, 255.0, 3136, 12845056, ""),
    )
    assert read_processor(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("said", "bounds", "differ"),
    [
        ({}, (3136, 1003520), ""),
        ({"max_pixels": 50176}, (3136, 50176), ""),
        ({"size": {"shortest_edge": 784, "longest_edge": 7840}}, (784, 7840), ""),
        ({"size": {"min_pixels": 784, "max_pixels": 7840}}, (784, 7840), ""),
        ({"size": {"shortest_edge": 784}, "min_pixels": None}, (784, 1003520), ""),
        (
            {"size": {"longest_edge": 7840}, "max_pixels": 50176},
            (3136, 50176),
            "max_pixels is 50176 but size.longest_edge is 7840",
        ),
    ],
)
def test_both_spellings_of_the_bounds(said, bounds, differ, tmp_path):
    found = read_processor(write(tmp_path, said))
    assert (found.min_pixels, found.max_pixels) == bounds
    assert found.disagreement == differ


def test_transformers_takes_the_same_of_two_spellings():
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as hf

    size = {"shortest_edge": 784, "longest_edge": 7840}
    found = hf.Qwen2VLImageProcessorPil(size=size, max_pixels=50176).size
    assert (found["shortest_edge"], found["longest_edge"]) == (784, 50176)


def test_steps_that_are_off_are_levels_of_one_and_no_mean(tmp_path):
    off = {"do_rescale": False, "do_normalize": False, "image_mean": [9, 9, 9]}
    found = read_processor(write(tmp_path, off))
    assert (found.levels, found.image_mean, found.image_std) == (
        1.0,
        (0,) * 3,
        (1,) * 3,
    )


@pytest.mark.parametrize(
    ("change", "pieces"),
    [
        ({"do_resize": False}, ("do_resize is false", "always resizes")),
        ({"resample": 2}, ("resample is 2", "bicubically (3)")),
        ({"do_center_crop": True}, ("do_center_crop is True",)),
        ({"do_normalize": "no"}, ("do_normalize is 'no'", "true or false")),
        ({"patch_size": 0}, ("patch_size is 0", "whole number >= 1")),
        ({"patch_size": True}, ("patch_size is True",)),
        ({"merge_size": 2.0}, ("merge_size is 2.0",)),
        ({"rescale_factor": 0}, ("rescale_factor is 0",)),
        ({"rescale_factor": 10**400}, ("rescale_factor is 1000",)),
        ({"rescale_factor": 1e-320}, ("rescale_factor is 1e-320",)),
        ({"image_mean": 10**400}, ("image_mean is",)),
        ({"rescale_factor": "1/255"}, ("rescale_factor is '1/255'",)),
        ({"image_mean": [0.5, 0.5]}, ("image_mean is [0.5, 0.5]", "three colours")),
        ({"image_std": [0.5, 0.0, 0.5]}, ("image_std is (0.5, 0.0, 0.5)",)),
        ({"image_mean": [0.5, 0.5, float("nan")]}, ("image_mean is",)),
        ({"size": {"height": 224, "width": 224}}, ("size is", "shortest_edge")),
        ({"min_pixels": 900, "max_pixels": 800}, ("900", "800", "above the most")),
        ({"image_processor_type": "CLIPImageProcessor"}, ("another model",)),
    ],
)
def test_what_medjax_does_not_do_is_refused(change, pieces, tmp_path):
    with pytest.raises(ValueError) as error:
        read_processor(write(tmp_path, RELEASED | change))
    for piece in (str(tmp_path / "preprocessor_config.json"), *pieces):
        assert piece in str(error.value)


def test_no_object_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected an object"):
        read_processor(write(tmp_path, [1]))


def test_transformers_5_nests_it(tmp_path):
    nested = {"processor_class": "x", "image_processor": RELEASED | {"merge_size": 4}}
    write(tmp_path, nested, "processor_config.json")
    assert read_processor(tmp_path).merge_size == 4
    with pytest.raises(
        ValueError, match="contradict each other: merge_size is 4 and 2"
    ):
        read_processor(write(tmp_path, RELEASED))
    write(tmp_path, {"processor_class": "x"}, "processor_config.json")
    assert read_processor(tmp_path).merge_size == 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)},
        {"levels": 128.0},
        {"levels": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    ],
)
def test_transformers_makes_the_same_patches_of_what_is_written(changes, tmp_path):
    from transformers import AutoImageProcessor

    geometry = Geometry(7, 2, 2, 28, 28 * 28, 56 * 70)._replace(**changes)
    write(tmp_path, processor_document(geometry))
    assert read_processor(tmp_path).levels == geometry.levels
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    for size in ((28, 42), (30, 91), (64, 64), (17, 23), (140, 20)):
        image = oracle.picture(*size, seed=5)
        expected = processor(images=[image], return_tensors="np")
        cut = cut_patches(resize_image(image, geometry), geometry)
        rows, cols = expected["image_grid_thw"][0, 1:]
        places = cut.rows_cols[cut.mask]
        order = np.lexsort(
            (places[:, 1] % 2, places[:, 0] % 2, places[:, 1] // 2, places[:, 0] // 2)
        )
        assert len(order) == rows * cols
        scale = np.abs(expected["pixel_values"]).max()
        # Two float32 roundings; transformers multiplies where we divide.
        np.testing.assert_allclose(
            cut.patches[cut.mask][order], expected["pixel_values"], atol=1e-6 * scale
        )

"""What is read from a checkpoint folder beside its weights, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from medjax.data.prompting.chat import Style, special_tokens
from medjax.data.prompting.layout import cut_patches, resize_image
from medjax.recipes.policy.opening import describe
from tests.oracles import qwen25vl_inputs as oracle
from tests.recipes.policy.hub import change, make
from tests.recipes.smoke import draw_params


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "tiny"
    tiny = make()
    tiny.save(path, draw_params(tiny.model))
    return path


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "policy")


IMAGES = "preprocessor_config.json"
GENERATION = "generation_config.json"


def test_bounds_are_the_configs_and_the_folders_are_said(folder, capsys):
    opened = make(path=str(folder))
    assert capsys.readouterr().out == ""  # they are the same
    change(folder, IMAGES, max_pixels=12845056, size=None)
    opened = make(path=str(folder))
    assert (opened.geometry.min_pixels, opened.geometry.max_pixels) == (784, 3136)
    (line,) = capsys.readouterr().out.splitlines()
    for piece in ("784 to 3136", "784 to 12845056", "policy.pixels=folder"):
        assert piece in line
    opened = make(path=str(folder), pixels="folder")
    assert (opened.geometry.min_pixels, opened.geometry.max_pixels) == (784, 12845056)
    assert capsys.readouterr().out == ""


def test_spellings_that_disagree_are_said_or_refused(folder, capsys):
    size = {"shortest_edge": 784, "longest_edge": 6272}
    change(folder, IMAGES, size=size)
    assert make(path=str(folder)).geometry.max_pixels == 3136
    assert "max_pixels is 3136 but size.longest_edge is 6272" in capsys.readouterr().out
    with pytest.raises(ValueError, match="size.longest_edge is 6272; correct one"):
        make(path=str(folder), pixels="folder")


def test_pixels_of_no_folder_are_refused(folder):
    with pytest.raises(ValueError, match="policy.pixels is 'folder'.*policy.path"):
        make(pixels="folder")
    with pytest.raises(ValueError, match="policy.pixels is 'hub', expected one of"):
        make(path=str(folder), pixels="hub")
    (folder / IMAGES).unlink()
    with pytest.raises(ValueError, match="no preprocessor_config.json.*pixels=config"):
        make(path=str(folder), pixels="folder")


def test_a_folder_without_an_image_processor_is_told(folder, capsys):
    (folder / IMAGES).unlink()
    assert make(path=str(folder)).geometry == make().geometry
    assert "normalised as for the released" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"),
    [("patch_size", 14), ("merge_size", 4), ("temporal_patch_size", 1)],
)
def test_patches_that_contradict_the_vision_tower_are_refused(key, value, folder):
    change(folder, IMAGES, **{key: value})
    with pytest.raises(ValueError, match=f"{key} is {value}, but the vision tower"):
        make(path=str(folder))


def test_mean_and_std_of_the_folder_are_used_and_exported(folder, tmp_path):
    from transformers import AutoImageProcessor

    change(
        folder,
        IMAGES,
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.9, 0.8, 0.7],
        rescale_factor=1 / 128,
    )
    opened = make(path=str(folder))
    assert opened.geometry.mean == (0.1, 0.2, 0.3)
    assert (opened.geometry.std, opened.geometry.levels) == ((0.9, 0.8, 0.7), 128.0)
    opened.save(tmp_path / "exported", draw_params(opened.model))
    assert make(path=str(tmp_path / "exported")).geometry == opened.geometry
    processor = AutoImageProcessor.from_pretrained(tmp_path / "exported")
    image = oracle.picture(28, 42, seed=3)
    found = cut_patches(resize_image(image, opened.geometry), opened.geometry)
    expected = processor(images=[image], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(
        np.sort(found.patches[found.mask], axis=None),
        np.sort(expected, axis=None),
        atol=1e-6,
    )


def test_ends_and_padding_of_the_folder_are_used_and_exported(folder, tmp_path):
    from transformers import AutoTokenizer, GenerationConfig

    tokens = ("<|im_end|>", "<|object_ref_end|>", "<|vision_pad|>")
    stop, other, pad = make().tokenizer.convert_tokens_to_ids(list(tokens))
    change(
        folder,
        GENERATION,
        eos_token_id=[stop, other],
        pad_token_id=pad,
        temperature=0.5,
        top_p=0.9,
        do_sample=True,
        repetition_penalty=1.05,
    )
    change(folder, "config.json", pad_token_id=pad)
    change(folder, "tokenizer_config.json", pad_token=None)
    opened = make(path=str(folder))
    assert opened.ends == ((stop, other), pad)
    assert special_tokens(opened.tokenizer).pad == pad
    assert opened.drawing == (True, 0.5, None, 0.9, 1.05)
    exported = tmp_path / "exported"
    opened.save(exported, draw_params(opened.model))
    found = GenerationConfig.from_pretrained(exported)
    assert (found.eos_token_id, found.pad_token_id) == ([stop, other], pad)
    assert (found.temperature, found.repetition_penalty) == (0.5, 1.05)
    assert json.loads((exported / "config.json").read_text())["pad_token_id"] == pad
    assert AutoTokenizer.from_pretrained(exported).pad_token_id == pad
    again = make(path=str(exported))
    assert (again.ends, again.drawing) == (opened.ends, opened.drawing)


def test_files_that_contradict_each_other_are_refused(folder):
    change(folder, "config.json", pad_token_id=3)
    with pytest.raises(ValueError, match="pad_token_id is .* but .*config.json.* is 3"):
        make(path=str(folder))


def test_an_adapter_alone_says_how_to_merge_it(tmp_path):
    about = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-VL-3B"}
    change(tmp_path, "adapter_config.json", **about)
    with pytest.raises(ValueError) as error:
        make(path=str(tmp_path))
    for piece in (
        *(str(tmp_path), "PEFT adapter (LORA on Qwen/Qwen2.5-VL-3B), not a whole"),
        *("from_pretrained('Qwen/Qwen2.5-VL-3B')", "merge_and_unload()"),
        "save_pretrained('MERGED')",
    ):
        assert piece in str(error.value)


def test_a_tie_may_be_asked_for(folder, tmp_path):
    tied = make(tied=True)
    tied.save(tmp_path / "tied", draw_params(tied.model))
    change(tmp_path / "tied", "config.json", tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"--config.policy.tied=True"):
        make(path=str(tmp_path / "tied"), tied=None)
    opened = make(path=str(tmp_path / "tied"), tied=True)
    assert opened.identity["tied"] and opened.identity == tied.identity
    with pytest.raises(ValueError, match="policy.tied is None"):
        make(tied=None)
    assert make(path=str(folder), tied=None).identity["tied"] is False


def test_a_head_that_a_config_ties_is_said(folder, capsys):
    change(folder, "config.json", tie_word_embeddings=True)
    assert make(path=str(folder), tied=None).identity["tied"] is False
    assert "lm_head.weight differs and is used" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["<think>", "</answer>"])
def test_tags_that_are_special_tokens_are_refused(name, folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    for token in content["added_tokens"]:
        token["special"] |= token["content"] == name
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError) as error:
        make(path=str(folder))
    for piece in (str(folder), f"{name} are special", '"special": false'):
        assert piece in str(error.value)


def test_tokens_beyond_the_embedding_are_refused_and_spare_rows_are_not(folder):
    opened = make(path=str(folder))
    assert len(opened.tokenizer) < 400  # the embedding's rows
    tokenizer = opened.tokenizer
    tokenizer.add_tokens([f"<organ_{n}>" for n in range(400 - len(tokenizer))])
    tokenizer.save_pretrained(folder)
    make(path=str(folder))
    tokenizer.add_tokens(["<one_more>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError) as error:
        make(path=str(folder))
    for piece in (
        *(str(folder), "1 tokens beyond the embedding's 400 rows"),
        *("'<one_more>' (400)", "resize_token_embeddings"),
    ):
        assert piece in str(error.value)


@pytest.mark.parametrize("names", [("tokenizer.json",), ("tokenizer.json", "vocab")])
def test_missing_files_of_the_tokenizer_are_named(names, folder):
    (folder / "tokenizer.json").unlink()
    if len(names) > 1:
        (folder / "vocab.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{folder}.*tokenizer.json"):
        make(path=str(folder))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "bos_token_id", "one"),  # what transformers checks by itself
        ("tokenizer_config.json", "eos_token", 3),
        ("tokenizer_config.json", "model_max_length", "long"),
    ],
)
def test_values_of_another_kind_are_refused_by_folder(name, key, value, folder):
    change(folder, name, **{key: value})
    with pytest.raises(ValueError, match=f"{folder}"):
        make(path=str(folder))


@pytest.mark.parametrize("kept", [0, 10])
def test_merges_that_were_cut_short_are_refused(kept, folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["merges"] = content["model"]["merges"][:kept]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{folder}: .* merges for {kept} only"):
        make(path=str(folder))


@pytest.mark.parametrize(
    ("change_of_config", "message"),
    [
        ({"vision_config": None}, "config.json: vision_config is not there.*merge"),
        ({"rope_scaling": None}, "config.json: rope_scaling is not there.*mrope_sec"),
        ({"model_type": None}, "config.json: model_type is None"),
    ],
)
def test_what_a_merge_left_out_of_the_config_is_named(
    change_of_config, message, folder
):
    change(folder, "config.json", **change_of_config)
    with pytest.raises(ValueError, match=message):
        make(path=str(folder))


def test_the_chat_template_is_compared_and_exported(folder, tmp_path):
    style = Style("You are a helpful assistant.", "", "object")
    with pytest.raises(ValueError) as error:
        make(style=style, path=str(folder))  # its policy never met a system turn
    for piece in (f"{folder}/chat_template.jinja and medjax", "prompt.system=''"):
        assert piece in str(error.value)
    own = Style("You are a radiologist.", "", "object")
    (folder / "chat_template.jinja").unlink()
    opened = make(style=own, path=str(folder))
    opened.save(tmp_path / "exported", draw_params(opened.model))
    make(style=own, path=str(tmp_path / "exported"))
    written = (tmp_path / "exported" / "chat_template.jinja").read_text()
    assert "You are a radiologist." in written


def test_a_folder_is_described_as_an_identity(folder):
    opened = make(path=str(folder))
    found = describe(folder)
    assert found["tokenizer"] == opened.digest
    assert found["images"].pop("mean") == list(opened.geometry.mean)
    assert found["images"]["max_pixels"] == 3136  # what medjax trained with
    assert found["ends"] == opened.ends._asdict()
    (folder / "medjax.json").unlink()
    assert "max_pixels" not in describe(folder)["images"]
    (folder / "medjax.json").write_text("[]")
    with pytest.raises(ValueError, match="medjax.json: expected images"):
        describe(folder)


def test_a_plan_needs_no_weights_and_a_training_does(folder):
    whole = make(path=str(folder))
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="safetensors"):
        make(path=str(folder))
    without = make(path=str(folder), weights=False)
    assert without.identity == whole.identity
    assert make(path=str(folder), weights=False, tied=True).identity["tied"] is True

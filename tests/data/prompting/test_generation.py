"""Special tokens and drawing as a folder's files say; contradictions by name."""

import json

import pytest

from medjax.data.prompting.generation import (
    Drawing,
    TokenIds,
    generation_document,
    read_drawing,
    read_token_ids,
)
from medjax.data.prompting.tokenizer import SPECIAL_TOKENS, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["nothing of the sort"], 278)


@pytest.fixture(scope="module")
def ids(tokenizer):
    found = tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    return dict(zip(SPECIAL_TOKENS, found, strict=True))


@pytest.fixture
def folder(ids, tmp_path):
    """What the released folders say, with a small tokenizer's ids."""
    end, stop = ids["<|endoftext|>"], ids["<|im_end|>"]
    places = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    write(tmp_path, "config.json", bos_token_id=end, eos_token_id=stop, **places)
    write(
        tmp_path,
        "generation_config.json",
        bos_token_id=end,
        pad_token_id=end,
        eos_token_id=[stop, end],
        do_sample=True,
        temperature=1e-6,
        repetition_penalty=1.05,
    )
    tokens = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    write(tmp_path, "tokenizer_config.json", bos_token=None, **tokens)
    return tmp_path


def write(folder, name, **changes):
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def test_the_released_files(folder, tokenizer, ids):
    end, stop = ids["<|endoftext|>"], ids["<|im_end|>"]
    assert read_token_ids(folder, tokenizer) == TokenIds((stop, end), end, end)
    assert read_drawing(folder) == Drawing(True, 1e-6, None, None, 1.05)


def test_all_ends_are_taken(folder, tokenizer, ids):
    names = ("<|vision_pad|>", "<|im_end|>", "<|im_end|>", "<|endoftext|>")
    ends = [ids[name] for name in names]
    write(folder, "generation_config.json", eos_token_id=ends)
    found = read_token_ids(folder, tokenizer)
    assert found.eos == (ends[0], ends[1], ends[3])
    write(folder, "generation_config.json", eos_token_id=ids["<|im_end|>"])
    assert read_token_ids(folder, tokenizer).eos == (ids["<|im_end|>"],)


def test_without_a_generation_config_the_ends_are_qwens(folder, tokenizer, ids):
    (folder / "generation_config.json").unlink()
    end, stop = ids["<|endoftext|>"], ids["<|im_end|>"]
    assert read_token_ids(folder, tokenizer) == TokenIds((stop, end), end, end)
    assert read_drawing(folder) == Drawing()


def test_a_folder_names_its_own_padding(folder, tokenizer, ids):
    pad = ids["<|vision_pad|>"]  # what some trainers choose
    write(folder, "generation_config.json", pad_token_id=pad)
    write(folder, "config.json", text_config={"pad_token_id": pad})
    token = {"content": "<|vision_pad|>", "lstrip": False}
    write(folder, "tokenizer_config.json", pad_token=token)
    write(folder, "special_tokens_map.json", pad_token=token)
    assert read_token_ids(folder, tokenizer).pad == pad


@pytest.mark.parametrize(
    ("name", "key", "token", "pieces"),
    [
        ("config.json", "eos_token_id", "<|im_start|>", ("generation_config.json",)),
        ("config.json", "pad_token_id", "<|im_end|>", ("generation_config.json",)),
        ("config.json", "bos_token_id", "<|im_end|>", ("generation_config.json",)),
        ("generation_config.json", "pad_token_id", "<|im_end|>", ("tokenizer_config",)),
        ("generation_config.json", "eos_token_id", "<|im_start|>", ("config.json",)),
        ("tokenizer_config.json", "eos_token", "<|im_start|>", ("generation_config",)),
        ("special_tokens_map.json", "pad_token", "<|im_end|>", ("generation_config",)),
        ("config.json", "image_token_id", "<|im_end|>", ("<|image_pad|> is",)),
    ],
)
def test_contradictions_are_named(name, key, token, pieces, folder, tokenizer, ids):
    write(folder, name, **{key: ids[token] if key.endswith("_id") else token})
    with pytest.raises(ValueError) as error:
        read_token_ids(folder, tokenizer)
    for piece in (str(folder / name), key, str(ids[token]), *pieces):
        assert piece in str(error.value)


def test_a_contradiction_within_config_json(folder, tokenizer, ids):
    text = {"pad_token_id": ids["<|im_end|>"]}
    write(folder, "config.json", pad_token_id=ids["<|endoftext|>"], text_config=text)
    with pytest.raises(ValueError, match="text_config.pad_token_id is"):
        read_token_ids(folder, tokenizer)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("generation_config.json", {"eos_token_id": "2"}, "eos_token_id is '2'"),
        ("generation_config.json", {"eos_token_id": []}, "expected an id"),
        ("generation_config.json", {"eos_token_id": [True]}, "expected an id"),
        ("config.json", {"pad_token_id": -1}, "pad_token_id is -1"),
        ("tokenizer_config.json", {"bos_token": "<s>"}, "'<s>' is no token"),
        ("config.json", {"image_token_id": None}, "absent, which means 151655"),
    ],
)
def test_what_is_no_id_is_refused(name, change, message, folder, tokenizer):
    write(folder, name, **change)
    with pytest.raises(ValueError, match=message):
        read_token_ids(folder, tokenizer)


def test_ends_must_end_an_answer(folder, tokenizer, ids):
    end = ids["<|endoftext|>"]
    write(folder, "generation_config.json", eos_token_id=end)
    write(folder, "config.json", eos_token_id=end)
    write(folder, "tokenizer_config.json", eos_token="<|endoftext|>")
    with pytest.raises(ValueError, match=r"without <\|im_end\|>"):
        read_token_ids(folder, tokenizer)


def test_ids_beyond_the_tokenizer_and_image_padding(folder, tokenizer, ids):
    write(folder, "generation_config.json", eos_token_id=[ids["<|im_end|>"], 151643])
    with pytest.raises(ValueError, match=r"no token \[151643\]: it has 278"):
        read_token_ids(folder, tokenizer)
    image = ids["<|image_pad|>"]
    ends = [ids["<|im_end|>"]]
    write(folder, "generation_config.json", eos_token_id=ends, pad_token_id=image)
    write(folder, "tokenizer_config.json", pad_token="<|image_pad|>")
    with pytest.raises(ValueError, match="is the image token"):
        read_token_ids(folder, tokenizer)


@pytest.mark.parametrize(
    ("key", "value"),
    [("temperature", -1), ("top_p", "0.9"), ("top_k", 1.5), ("do_sample", 1)],
)
def test_drawing_of_another_kind_is_refused(key, value, folder):
    write(folder, "generation_config.json", **{key: value})
    with pytest.raises(ValueError, match=f"generation_config.json: {key} is"):
        read_drawing(folder)


def test_transformers_reads_what_is_written(folder, tmp_path):
    from transformers import GenerationConfig

    ids, drawing = TokenIds((7, 5), 5, 5), Drawing(True, 0.7, 20, 0.8, 1.05)
    path = tmp_path / "written"
    path.mkdir()
    write(path, "generation_config.json", **generation_document(ids, drawing))
    found = GenerationConfig.from_pretrained(path)
    assert (found.eos_token_id, found.pad_token_id, found.bos_token_id) == (
        [7, 5],
        5,
        5,
    )
    assert Drawing(*(getattr(found, key) for key in Drawing._fields)) == drawing
    assert read_drawing(path) == drawing

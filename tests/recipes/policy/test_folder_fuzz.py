"""Files of a checkpoint folder with anything in any place: opened, or a clear error."""

import json
import random
import shutil

import pytest

from tests.recipes.policy.hub import make
from tests.recipes.smoke import draw_params

NAMES = (
    "config.json",
    "generation_config.json",
    "medjax.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "adapter_config.json",
    "chat_template.json",
    "processor_config.json",
    "special_tokens_map.json",
)
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**400, 1.5, -0.0, 1e308, float("nan")),
    *(float("inf"), "", "x", "<|im_end|>", "nan", "{{ messages }}", "{% for %}", "\0"),
    *([], [None], [1, 2], ["a"], [[1]], {}, {"a": 1}, {"content": 3}, {"": None}),
)
TEXTS = ("", "{", "[]", "null", "3", '{"a": 1, "a": 2}', "\ufeff{}", '"x"', "{}\0")
KEYS = (
    *("size", "min_pixels", "image_mean", "rescale_factor", "do_resize", "resample"),
    *("eos_token_id", "pad_token_id", "temperature", "do_sample", "chat_template"),
    *("text_config", "vision_config", "rope_scaling", "tie_word_embeddings", "images"),
    *("eos_token", "pad_token", "image_processor", "peft_type", "model_type"),
    *("vocab_size", "quantization_config", "layer_types", "image_token_id"),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "tiny"
    tiny = make()
    tiny.save(path, draw_params(tiny.model))
    return path


def spoil(content, rng):
    """One value somewhere in the document becomes another."""
    places = [content]
    for part in places:  # grows
        items = part.values() if isinstance(part, dict) else part
        places += [x for x in items if isinstance(x, dict | list) and x]
    part = rng.choice(places)
    if isinstance(part, list):
        part[rng.randrange(len(part))] = rng.choice(VALUES)
        return
    keys = sorted(part) + list(KEYS if part is content else ())
    key = rng.choice(keys)
    if key in part and rng.random() < 0.3:
        del part[key]
    else:
        part[key] = rng.choice(VALUES)


def fuzz(saved, folder, seeds):
    """How many folders opened, and how many were refused."""
    opened = refused = 0
    for seed in seeds:
        rng = random.Random(seed)
        shutil.copytree(saved, folder, dirs_exist_ok=True)
        name = rng.choice(NAMES)
        path = folder / name
        if rng.random() < 0.1:
            path.write_bytes(rng.choice((*map(str.encode, TEXTS), b"\xff\xfe{}")))
        else:
            content = json.loads(path.read_text()) if path.exists() else {}
            spoil(content, rng)
            path.write_text(json.dumps(content))
        options = {"pixels": rng.choice(("config", "folder")), "tied": None}
        try:
            make(path=str(folder), **options)
            opened += 1
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            assert str(folder) in str(error) or "policy." in str(error), (seed, error)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, {name}: {error!r}") from error
        for file in folder.iterdir():
            if not (saved / file.name).exists():
                file.unlink()
    return opened, refused


def test_spoilt_folders_open_or_are_refused_by_name(saved, tmp_path, capsys):
    opened, refused = fuzz(saved, tmp_path / "policy", range(40))
    assert opened > 5 and refused > 5

import copy
import dataclasses
import json

import pytest

from medjax.models.qwen25vl.config import Qwen25VLConfig, VisionConfig
from medjax.models.qwen25vl.hf_config import config_from_hf, config_to_hf
from tests.models.qwen25vl.test_config import released_config
from tests.oracles.qwen25vl_inputs import TOKEN_IDS, flat_config

EXPECTED_3B = Qwen25VLConfig(
    vocab=151936,
    width=2048,
    mlp=11008,
    layers=36,
    heads=16,
    kv_heads=2,
    head_dim=128,
    mrope_section=(16, 24, 24),
    vision=VisionConfig(
        depth=32, width=1280, mlp=3420, heads=16, full_blocks=(7, 15, 23, 31)
    ),
    tied=True,
)


def nested(flat):
    """The form transformers 5 saves."""
    flat = copy.deepcopy(flat)
    root = {k: v for k, v in flat.items() if k.endswith("_token_id")}
    root["model_type"] = flat.pop("model_type")
    root["vision_config"] = flat.pop("vision_config")
    root["tie_word_embeddings"] = flat.pop("tie_word_embeddings")
    rope = {"rope_theta": flat.pop("rope_theta"), "rope_type": "default"}
    flat["rope_parameters"] = {**flat.pop("rope_scaling"), **rope}
    flat["layer_types"] = ["full_attention"] * flat["num_hidden_layers"]
    flat["sliding_window"] = None
    return {**root, "text_config": flat}


def test_published_form(tmp_path):
    content = released_config("3B")
    assert config_from_hf(content) == EXPECTED_3B
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert config_from_hf(tmp_path) == EXPECTED_3B
    assert config_from_hf(str(tmp_path / "config.json")) == EXPECTED_3B


@pytest.mark.parametrize("kind", ["mrope", "default"])
def test_nested_form(kind):
    content = nested(released_config("3B"))
    content["text_config"]["rope_parameters"]["rope_type"] = kind
    assert config_from_hf(content) == EXPECTED_3B


def test_tie_may_stand_in_the_text_config():
    content = nested(released_config("3B"))
    content["text_config"]["tie_word_embeddings"] = content.pop("tie_word_embeddings")
    assert config_from_hf(content).tied
    content["tie_word_embeddings"] = False  # the outer default; transformers ties too
    assert config_from_hf(content).tied


def test_spellings_of_the_vision_sizes():
    content = released_config("3B")
    vision = content["vision_config"]
    vision["in_channels"] = vision.pop("in_chans")
    del vision["patch_size"]  # spatial_patch_size remains
    assert config_from_hf(content) == EXPECTED_3B
    vision["patch_size"] = [14, 14]
    assert config_from_hf(content) == EXPECTED_3B


def test_absent_keys_mean_the_class_defaults():
    """transformers 4 leaves them out when it saves; these are what it then reads."""
    transformers = pytest.importorskip("transformers")
    content = released_config("7B")
    for key in ("depth", "intermediate_size", "num_heads", "window_size", "patch_size"):
        del content["vision_config"][key]
    del content["vision_config"]["out_hidden_size"]
    assert config_from_hf(content) == config_from_hf(released_config("7B"))
    bare = {
        "model_type": "qwen2_5_vl",
        "vision_config": {"out_hidden_size": 8192},
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    }
    theirs = transformers.Qwen2_5_VLConfig(**bare).to_dict()
    assert config_from_hf(bare) == config_from_hf(theirs)


def test_other_values_are_read():
    content = released_config("3B")
    content |= {"rms_norm_eps": 1e-5, "rope_theta": 5e5}
    content["vision_config"]["fullatt_block_indexes"] = [3]
    config = config_from_hf(content)
    assert (config.norm_eps, config.rope_theta) == (1e-5, 5e5)
    assert config.vision.full_blocks == (3,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen2_vl"}, "'qwen2_vl', expected 'qwen2_5_vl'"),
        ({"model_type": None}, "None, expected 'qwen2_5_vl'"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["sliding_attention"]}, "use_sliding_window"),
        ({"rope_scaling": {"type": "yarn", "mrope_section": [16, 24, 24]}}, "'yarn'"),
        ({"rope_scaling": {"type": "mrope"}}, "mrope_section is None"),
        (
            {"rope_scaling": None},
            "rope_scaling is not there, expected an object with mrope_section",
        ),
        (
            {"rope_scaling": {"type": "mrope", "mrope_section": [8, 8, 8]}},
            "mrope_section [8, 8, 8] for head width 128",
        ),
        ({"hidden_size": "2048"}, "expected a positive integer"),
        ({"num_hidden_layers": 0}, "expected a positive integer"),
        ({"num_attention_heads": 15}, "15 heads of 136 in a width of 2048"),
        ({"num_key_value_heads": 3}, "16 heads over 3 key heads"),
        ({"head_dim": 64}, "head_dim is 64"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps 'small'"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised"),
        ({"vision_config": None}, "vision_config"),
        ({"vision_config.out_hidden_size": 3584}, "out_hidden_size 3584"),
        ({"vision_config.in_channels": 1}, "spellings disagree"),
        ({"vision_config.window_size": 100}, "window of 100 px"),
        ({"vision_config.fullatt_block_indexes": [32]}, "blocks [32] of 32"),
        ({"vision_config.fullatt_block_indexes": 7}, "fullatt_block_indexes is 7"),
        ({"vision_config.rope_parameters": {"rope_theta": 1e6}}, "vision rope_theta"),
    ],
)
def test_what_we_would_get_wrong_is_refused(change, message, tmp_path):
    content = released_config("3B")
    for key, value in change.items():
        if "." in key:
            content["vision_config"][key.split(".")[1]] = value
        else:
            content[key] = value
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError) as error:
        config_from_hf(tmp_path)
    assert message in str(error.value) and str(tmp_path) in str(error.value)


def test_all_faults_are_listed():
    content = released_config("3B") | {"use_sliding_window": True, "vocab_size": -1}
    with pytest.raises(ValueError, match=r"(?s)vocab_size.*use_sliding_window"):
        config_from_hf(content)


def test_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        config_from_hf(tmp_path)
    for text in ("{", "[]", "\xff"):
        (tmp_path / "config.json").write_bytes(text.encode("latin1"))
        with pytest.raises(ValueError, match=r"config\.json"):
            config_from_hf(tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_round_trip(tied):
    config = config_from_hf(flat_config(4, tied))
    assert config_from_hf(config_to_hf(config, token_ids=TOKEN_IDS)) == config
    content = json.loads(json.dumps(config_to_hf(config, token_ids=TOKEN_IDS)))
    assert config_from_hf(content) == config


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_reads_what_we_write(tied):
    transformers = pytest.importorskip("transformers")
    config = config_from_hf(flat_config(4, tied))
    theirs = transformers.Qwen2_5_VLConfig(**config_to_hf(config, token_ids=TOKEN_IDS))
    assert config_from_hf(theirs.to_dict()) == config
    assert theirs.image_token_id == TOKEN_IDS["image_token_id"]
    assert theirs.text_config.eos_token_id == TOKEN_IDS["eos_token_id"]
    assert theirs.vision_config.window_size == 32


def test_what_cannot_be_written():
    config = config_from_hf(flat_config(4, False))
    with pytest.raises(ValueError, match="no image_token_id"):
        config_to_hf(config, token_ids={})
    with pytest.raises(ValueError, match="'image_id'"):
        config_to_hf(config, token_ids={**TOKEN_IDS, "image_id": 1})
    wide = dataclasses.replace(config, head_dim=32, mrope_section=(4, 6, 6))
    with pytest.raises(ValueError, match="4 heads of 32 in a width of 64"):
        config_to_hf(wide, token_ids=TOKEN_IDS)
    vision = dataclasses.replace(config.vision, norm_eps=1e-5)
    with pytest.raises(ValueError, match="vision epsilon"):
        config_to_hf(dataclasses.replace(config, vision=vision), token_ids=TOKEN_IDS)

"""The shipped policy: whole, small, sealed, and made of what the table allows."""

import json
import shutil

import pytest

from configs.medloc import get_config
from configs.pretrain import get_config as get_pretraining
from medjax.data.pretraining.held_out import HELD_OUT, held_in_words
from medjax.data.pretraining.shipped import SHIPPED, shipped_policy
from medjax.data.pretraining.words import class_questions
from medjax.data.prompting.chat import named_style
from medjax.recipes.policy.opened import check_ramps
from medjax.recipes.policy.opening import open_geometry, open_policy
from medjax.recipes.policy.qwen25vl_folder import TRAINED, check_seal

STYLE = named_style(system="", suffix="", answer="object", think=True)
CARD = (shipped_policy() / "README.md").read_text()


def shipped(**changes):
    section = get_config("data=mr_new").policy.to_dict() | changes
    return open_policy(section).finish((), ("<think>a</think>",), style=STYLE)


def test_new_domains_start_from_it():
    assert get_config("data=mr_new").policy.path == SHIPPED
    policy = shipped()
    assert policy.ramps is True and policy.load is not None
    sizes = get_pretraining().policy
    for name in ("vocab", "width", "layers"):
        assert policy.identity[name] == sizes[name]


def test_its_pictures_are_cut_alike_where_nobody_asks_it():
    """Somebody else's answers are scored without weights, in its pixels."""
    section = get_config("data=mr_new").to_dict()["policy"]
    assert section["path"] == SHIPPED
    assert open_geometry(section) == open_policy(section).geometry


def test_it_fits_into_a_repository():
    size = sum(path.stat().st_size for path in shipped_policy().iterdir())
    assert size < 8_000_000


def test_the_card_tells_what_the_table_holds_out():
    for what, names in held_in_words(HELD_OUT).items():
        assert f"- {what}: {names}" in CARD
    assert "not finished" not in CARD and "`data.ramps=True` is needed" in CARD
    assert "AAL among them, were not used" in CARD


def test_questions_about_classes_are_words_to_it():
    """A text that it never met takes three letters of five a token."""
    tokenizer = shipped().tokenizer
    for text in class_questions():
        assert len(tokenizer(text)["input_ids"]) < len(text) / 2.5


def test_a_changed_file_is_refused(tmp_path):
    folder = tmp_path / "policy"
    shutil.copytree(shipped_policy(), folder)
    check_seal(folder)
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors \(expected sha256"):
        shipped(path=str(folder))


def test_other_sizes_and_tokenizers_are_refused(tmp_path):
    """The checksums taken out on purpose, the parts still have to belong together."""
    folder = tmp_path / "policy"
    shutil.copytree(shipped_policy(), folder)
    (folder / TRAINED).write_text(json.dumps({"images": {"ramps": True}}))
    path = folder / "preprocessor_config.json"
    kept = path.read_text()
    path.write_text(kept.replace('"patch_size": 7', '"patch_size": 14'))
    with pytest.raises(ValueError, match="patch_size is 14, but the vision tower"):
        shipped(path=str(folder))
    path.write_text(kept)
    tokenizer = shipped().tokenizer
    tokenizer.add_tokens([f"<organ_{n}>" for n in range(40)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match="tokens beyond the embedding's"):
        shipped(path=str(folder))


def test_pictures_without_ramps_are_refused():
    with pytest.raises(ValueError, match=r"--config\.data\.ramps=True"):
        check_ramps(shipped(), False)

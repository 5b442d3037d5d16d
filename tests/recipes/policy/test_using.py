"""Which checkpoint is used, whether it fits, and how tokens are drawn."""

import pytest

from medjax.data.prompting.chat import Style
from medjax.data.prompting.generation import Drawing
from medjax.recipes.policy.identity import shown_with
from medjax.recipes.policy.opening import section_for_use
from medjax.recipes.policy.using import (
    PredictOptions,
    check_stage,
    check_usable,
    choose_decoding,
    find_checkpoint,
)
from tests.recipes.policy.hub import SECTION, STYLE, change, make
from tests.recipes.smoke import draw_params

OPTIONS = PredictOptions(0, 0, 0, None, None, None, 0, "axial", 0)
QWEN = Drawing(do_sample=True, temperature=0.1, top_k=1, top_p=0.9)


@pytest.fixture(scope="module")
def policy():
    return make()


def decoding(policy, drawing, *, folder=True, **changes):
    return choose_decoding(
        policy._replace(drawing=drawing),
        OPTIONS._replace(**changes),
        folder=folder,
        max_tokens=9,
    )[2:]


def test_a_run_writes_the_likeliest_tokens_whatever_its_folder_said(policy, capsys):
    assert decoding(policy, QWEN, folder=False) == (0.0, None, None)
    assert not capsys.readouterr().out


def test_a_folder_draws_as_it_says_and_an_option_overrides(policy, capsys):
    assert decoding(policy, QWEN) == (0.1, 1, 0.9)
    assert "temperature 0.1, top_k 1, top_p 0.9, seed 0" in capsys.readouterr().out
    assert decoding(policy, QWEN, top_k=5) == (0.1, 5, 0.9)
    assert decoding(policy, QWEN, temperature=0.0) == (0.0, None, None)
    assert decoding(policy, QWEN, temperature=1.0, top_p=0.5) == (1.0, None, 0.5)
    # do_sample alone decides, as in transformers
    assert decoding(policy, QWEN._replace(do_sample=None)) == (0.0, None, None)
    assert decoding(policy, Drawing(do_sample=True)) == (1.0, None, None)
    most = QWEN._replace(top_k=50_000, top_p=1.0)
    assert decoding(policy, most) == (0.1, None, None)
    capsys.readouterr()
    decoding(policy, Drawing(repetition_penalty=1.05))
    assert "repetition_penalty of 1.05, which is not applied" in capsys.readouterr().out


@pytest.mark.parametrize(
    "drawing, changes, piece",
    [
        (Drawing(), {"top_k": 5}, "predict.temperature above 0"),
        (Drawing(), {"temperature": -1.0}, "temperature=-1"),
        (Drawing(), {"temperature": 1.0, "top_p": 1.5}, "top_p=1.5"),
        (Drawing(), {"temperature": 1.0, "top_k": 10**6}, "predict.top_k=1000000"),
        (QWEN._replace(temperature=0.0), {}, "do_sample with temperature 0"),
    ],
)
def test_decodings_that_make_no_sense(policy, drawing, changes, piece):
    with pytest.raises(ValueError, match=piece):
        decoding(policy, drawing, **changes)


def test_a_checkpoint_of_another_task(policy):
    ours = Style(None, "", "letter")
    stored = shown_with(policy, STYLE, ramps=False)
    with pytest.raises(ValueError, match="by one box a question, this config.*classes"):
        check_usable(policy, ours, False, stored)
    sets = STYLE._replace(answer="set-object")
    with pytest.raises(ValueError, match="sets of boxes"):
        check_usable(policy, STYLE, False, shown_with(policy, sets, ramps=False))
    listed = STYLE._replace(answer="list")
    with pytest.raises(ValueError, match="--config.prompt.answer=list"):
        check_usable(policy, STYLE, False, shown_with(policy, listed, ramps=False))
    with pytest.raises(ValueError, match="--config.data.ramps=False"):
        check_usable(policy, STYLE, True, stored)
    check_usable(policy, STYLE, False, stored)
    with pytest.raises(ValueError, match="tokenizer"):
        check_usable(policy, STYLE, False, {"tokenizer": "another"})


def test_which_checkpoint(tmp_path, capsys):
    run = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="holds no run; expected --checkpoint"):
        find_checkpoint(None, run, "")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_checkpoint(str(tmp_path / "x"), run, "")
    assert str(find_checkpoint(None, run, "folder")) == "folder"
    assert "as it came" in capsys.readouterr().out
    (run / "sft/checkpoints").mkdir(parents=True)
    assert find_checkpoint(None, run, "folder") == run
    check_stage(run, "sft")
    check_stage(run / "sft", "grpo")
    with pytest.raises(FileNotFoundError, match="stages sft: name one"):
        check_stage(run, "grpo")
    with pytest.raises(FileNotFoundError, match="no run"):
        check_stage(tmp_path / "run/sft/checkpoints", "grpo")


def test_a_folder_is_the_policy_bounded_as_in_its_training(tmp_path):
    tiny = make()
    tiny.save(tmp_path / "ours", draw_params(tiny.model))
    other = {"min_pixels": 1, "max_pixels": 10**6}
    found = section_for_use(SECTION | other, tmp_path / "ours")
    assert found["path"] == str(tmp_path / "ours") and found["tied"] is None
    assert found["max_pixels"] == SECTION["max_pixels"]
    assert section_for_use(SECTION, tmp_path / "run") == SECTION
    (tmp_path / "ours/medjax.json").unlink()
    change(tmp_path / "ours", "x.json")
    with pytest.raises(ValueError, match="model=FOLDER"):
        section_for_use(SECTION, tmp_path / "ours")
    named = SECTION | {"path": str(tmp_path / "ours")}
    assert section_for_use(named, tmp_path / "ours") == named

"""The stages that `configs/vrft_aug.py` asks for, and what it may not ask for."""

import json

import pytest

from medjax.data.prompting.chat import SYSTEM, Style
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.vrft_aug import stages
from medjax.systems import vrft_aug
from tests.recipes.smoke import WHERE, draw_params
from tests.recipes.smoke_labels import label_sections

SHORT = {"train__grpo__max_tokens": 0}


def names(arg="", **changes):
    return [stage.name for stage in stages(**WHERE, **label_sections(arg, **changes))]


def test_localisation_comes_first_and_the_policy_is_one():
    found = stages(**WHERE, **label_sections())
    assert [stage.name for stage in found] == [
        "boxes_warm_start",
        "boxes_grpo",
        "warm_start",
        "grpo",
    ]
    assert [stage.evaluate_first for stage in found] == [False, False, True, False]
    assert len({str(stage.identity["policy"]) for stage in found}) == 1
    assert found[1].identity["options"]["reward"] == "curriculum"
    for stage in found:
        stage.check()


def test_parts_are_left_out_one_by_one():
    assert names("policy=off") == ["warm_start", "grpo"]
    assert names("parts=none,method=sft") == ["warm_start", "sft"]
    assert names("policy=off", warm_start__steps=0) == ["grpo"]
    chain = stages(**WHERE, **label_sections(warm_start__steps=0))
    assert chain[-1].evaluate_first  # what localisation alone knows


@pytest.mark.parametrize(
    ("arg", "weights"),
    [
        ("recite=negative", (0.0, 1.0, 1.0, -0.5)),
        ("recite=positive", (0.0, 1.0, 1.0, 0.5)),
        ("parts=none", (1.0, 0.0, 1.0, 0.0)),
    ],
)
def test_weights_of_the_rewards(arg, weights, monkeypatch):
    seen = {}

    def build(*_, **options):
        seen.update(options)

    monkeypatch.setattr(vrft_aug, "build", build)
    stages(**WHERE, **label_sections(f"policy=off,{arg}"))
    names = ("accuracy", "grade", "format", "recitation")
    rewards = seen["rewards"]
    assert seen["step"].reward_weights == dict(zip(names, weights, strict=True))
    # silence must not be the way out of a negative weight
    assert rewards.without_words == (1.0 if arg == "recite=negative" else 0.0)
    assert rewards.min_different == (3 if arg == "recite=negative" else 1)
    assert rewards.leak_label is False


def test_the_policy_is_the_same_whatever_the_parts():
    """Runs with and without a part differ in it alone."""
    found = [
        stages(**WHERE, **label_sections(arg))[-1].identity
        for arg in ("", "policy=off", "prompt=off", "parts=none")
    ]
    assert len({one["tokenizer"] for one in found}) == 1


def test_a_checkpoint_is_tested_with_the_words_it_was_trained_with():
    told, bare, boxes = (
        stages(**WHERE, **label_sections(arg))
        for arg in ("policy=off", "policy=off,prompt=off", "")
    )
    told[-1].accepts(json.loads(json.dumps(told[0].identity)))
    told[-1].accepts(json.loads(json.dumps(boxes[0].identity)))  # another task's
    with pytest.raises(ValueError, match="differ in their knowledge"):
        told[-1].accepts(json.loads(json.dumps(bare[-1].identity)))
    classes = {"words": told[-1].identity["data"]["words"] | {"classes": "others"}}
    told[-1].accepts(told[-1].identity | {"data": classes})
    other = told[-1].identity | {"tokenizer": "0123"}
    with pytest.raises(ValueError, match="another tokenizer .0123, here"):
        told[-1].accepts(other)


def test_without_thinking_answers_and_rewards_fit():
    """The self-test of each stage shows that what is taught earns its reward."""
    found = stages(**WHERE, **label_sections("think=off"))
    for stage in found:
        stage.check()
        assert stage.identity["prompt"]["think"] is False
        batch = next(iter(stage.source))
        tokenizer = open_policy_tokenizer(stage)
        for tokens, mask in zip(batch.answer, batch.answer_mask, strict=True):
            text = tokenizer.decode(tokens[mask], skip_special_tokens=True)
            assert text.startswith("<answer>") and text.endswith("</answer>")
    assert found[-1].identity["options"]["min_words"] == 0
    before = stages(**WHERE, **label_sections())
    assert "think" not in before[-1].identity["prompt"]
    # one that thinks and one that does not are not taken for each other
    stored = json.loads(json.dumps(before[-1].identity))
    with pytest.raises(ValueError, match=r"prompt.think \(True, here False\).*think=T"):
        found[-1].accepts(stored)
    with pytest.raises(ValueError, match=r"prompt.think \(False, here True\)"):
        before[-1].accepts(json.loads(json.dumps(found[-1].identity)))


def open_policy_tokenizer(stage):
    """The tokenizer that a stage's answers are written down by."""
    return stage.score.args[-1].tokenizer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward_weights__recitation": -0.5}, "reward_weights.recitation=-0.5 asks"),
        ({"min_words": 1}, "prompt.think=False: .*train.grpo.min_words=1 asks"),
        ({"repeat_ngram": 2}, "train.grpo.repeat_ngram=2 asks something of it"),
    ],
)
def test_without_thinking_nothing_is_asked_of_a_reasoning(change, message):
    change = {f"train__grpo__{name}": value for name, value in change.items()}
    with pytest.raises(ValueError, match=message):
        stages(**WHERE, **label_sections("think=off,policy=off", **change))


def test_a_pretrained_policy_is_told_how_to_answer(tmp_path):
    _, finish = open_policy(label_sections()["policy"])
    policy = finish(
        ("Which?",), ("<think>a</think>",), style=Style(SYSTEM, "", "letter")
    )
    policy.save(tmp_path / "tiny", draw_params(policy.model))
    arg = f"model={tmp_path}/tiny,policy=off"
    found = stages(**WHERE, **label_sections(arg, **SHORT))
    assert [stage.name for stage in found] == ["grpo"]
    assert found[0].start is not None
    batch = next(iter(found[0].source))
    row = batch.prompt.question
    text = policy.tokenizer.decode(row.tokens[0][row.mask[0]])
    assert "give the grade, a whole number, alone between <answer>" in text


def test_the_words_of_a_localisation_are_compared_too(tmp_path):
    _, finish = open_policy(label_sections()["policy"])
    policy = finish(
        ("Which?",), ("<think>a</think>",), style=Style(SYSTEM, "", "letter")
    )
    policy.save(tmp_path / "tiny", draw_params(policy.model))
    chosen = label_sections(f"model={tmp_path}/tiny,policy=on", **SHORT)
    chosen["localisation"]["prompt"]["system"] = ""
    with pytest.raises(
        ValueError, match=r"(?s)chat_template.jinja.*prompt.system=auto"
    ):
        stages(**WHERE, **chosen)


def test_unknown_methods_are_refused_before_anything_is_loaded():
    chosen = label_sections()
    chosen["train"]["method"] = "ppo"
    chosen["data"]["source"] = "/nowhere"
    with pytest.raises(ValueError, match="'ppo'.*grpo, sft"):
        stages(**WHERE, **chosen)

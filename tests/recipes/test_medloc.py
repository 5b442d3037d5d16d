"""The stages that `configs/medloc.py` asks for, and what it may not ask for."""

import jax
import numpy as np
import pytest

from medjax.recipes.boxes.stage import (
    SCHEDULES,
    BoxRewards,
    box_stage,
    make_schedule,
)
from medjax.recipes.medloc import stages
from medjax.recipes.policy.setup import Revisit
from medjax.recipes.policy.training_tables import (
    raise_table,
    speed_table,
    watchdog_table,
)
from medjax.runtime.watchdogs import Limits
from medjax.systems.optimizer import OptimizerOptions
from medjax.systems.policy.advantages import Advantages
from tests.recipes.smoke import (
    WHERE,
    draw_params,
    make_setup,
    make_training,
    sections,
)


@pytest.fixture(scope="module")
def setup():
    return make_setup()


@pytest.fixture(scope="module")
def hub(setup, tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "tiny"
    setup.policy.save(path, draw_params(setup.policy.model))
    return path


def grpo(setup, **changes):
    options, rewards = make_training().grpo
    own = {name: changes.pop(name) for name in rewards._fields if name in changes}
    options, rewards = options._replace(**changes), rewards._replace(**own)
    return box_stage("grpo", setup, options, rewards, before={})


def test_warm_start_then_grpo():
    first, second = stages(**WHERE, **sections())
    assert (first.name, second.name) == ("warm_start", "grpo")
    assert first.steps == second.steps == 4
    assert first.start is None and second.start is None
    assert "tau" in second.show and "hit_rate" in second.show
    assert first.identity["data"] == second.identity["data"]
    first.check()
    second.check()
    # other pictures than the warm start's
    batches = [next(iter(stage.source)) for stage in (first, second)]
    assert not np.array_equal(batches[0].boxes, batches[1].boxes)


@pytest.mark.parametrize("answers", ["one", "set"])
def test_without_thinking_the_answer_alone_earns_its_reward(answers):
    kind = {"data__answers": answers}
    found = stages(**WHERE, **sections("think=off", **kind))
    for stage in found:
        stage.check()
        assert stage.identity["prompt"]["think"] is False
        tokenizer = stage.score.args[-1].tokenizer
        batch = next(iter(stage.source))
        text = tokenizer.decode(batch.answer[0][batch.answer_mask[0]])
        assert text.startswith("<answer>")
    with pytest.raises(ValueError, match=r"think='of': expected one of on, off"):
        sections("think=of")


def test_patience_with_steps_that_teach_nothing(setup):
    watch = grpo(setup, patience=7).watch
    assert watch.patience == 7
    batch = next(iter(grpo(setup).source))
    record = setup.task.find_records(
        setup.parts, setup.encoding._replace(questions=2), seed=setup.seed + 1
    )([batch.sample_id[0]])[0]
    found = watch.locate(int(batch.sample_id[0]))
    assert record.slice_id in found and record.query in found
    row = {"reward_accuracy": 0.25, "parse_rate": 0.75, "tau": 0.45}
    said = watch.advise(row)
    assert (
        "reward=curriculum at tau 0.45" in said and "accuracy 0.25 (weight 1)" in said
    )
    assert "train.grpo.group" in said
    assert "75% could not be read" in watch.advise({"parse_rate": 0.25})
    window = grpo(setup, schedule_changes={"window": 80}).watch
    assert window.settle == 81 > grpo(setup, reward="fixed").watch.settle == 0
    assert grpo(setup, reward="progress", steps=400).watch.settle == 101
    # a resume may have another, and checkpoints from before it have none
    assert "patience" not in grpo(setup).identity["options"]
    assert [grpo(setup, patience=x).watch.patience for x in (None, 0)] == [0, 0]
    with pytest.raises(ValueError, match=r"patience=-1: expected a number of steps"):
        grpo(setup, patience=-1)


def test_watchdogs_know_the_weights_and_are_no_part_of_the_identity(setup):
    limits = Limits(entropy=0.2, window=3)
    parts = Advantages("group", normalise="parts")
    dogs = grpo(setup, watchdogs=limits, advantages=parts).watch.dogs
    weights, right = {"accuracy": 1.0, "format": 1.0}, ("accuracy", "grade")
    assert dogs == (limits, weights, True, right)
    assert not grpo(setup).watch.dogs.by_parts
    assert "watchdogs" not in grpo(setup).identity["options"]
    with pytest.raises(ValueError, match=r"grpo\.watchdogs\.share=2: expected 0 to 1"):
        grpo(setup, watchdogs=Limits(share=2))
    with pytest.raises(ValueError, match="normalise=parts: found advantages.scale"):
        grpo(setup, advantages=parts._replace(scale="none"))


def test_pictures_that_come_are_numbered_as_they_are_in_the_training_part(setup):
    """A number names the same picture in every epoch; the step takes fewer."""
    revisit = Revisit(visits=2, keep=0.5, candidates=3)
    stage = grpo(setup, revisit=revisit, batch=4, questions=2)
    find = setup.task.find_records(
        setup.parts, setup.encoding._replace(questions=2), seed=setup.seed + 1
    )
    names, count = {}, setup.parts.train.count
    iterator = iter(stage.source)
    for _ in range(2 * count // 12 + 2):
        batch, picture = next(iterator)
        assert picture.shape == (12,) and batch.valid.shape == (24,)
        for number, sample in zip(picture, batch.sample_id[::2], strict=True):
            (record,) = find([sample])
            assert names.setdefault(int(number), record.slice_id) == record.slice_id
    assert len(names) == count == len(set(names.values()))
    state = jax.eval_shape(stage.system.init, jax.random.key(0))
    assert state.aux.visits.idle.shape == (count,)
    assert stage.identity["options"]["revisit"]["candidates"] == 3
    plain_state = jax.eval_shape(grpo(setup).system.init, jax.random.key(0))
    assert plain_state.aux.visits == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visits": -1}, r"revisit\.visits=-1: expected visits in a row"),
        ({"keep": 1.0}, r"revisit\.keep=1.0: expected a probability from 0 to below 1"),
        ({"candidates": 1}, r"revisit\.candidates=1: expected 2 or more"),
    ],
)
def test_what_a_revisit_cannot_be_is_refused(setup, change, message):
    with pytest.raises(ValueError, match=message):
        grpo(setup, revisit=Revisit(2)._replace(**change))
    weights = {"accuracy": 0.0, "format": 1.0}
    with pytest.raises(ValueError, match="none of the rewards accuracy, grade has"):
        grpo(setup, revisit=Revisit(2), reward_weights=weights)


def test_the_report_is_told_what_holds_a_raise_of_a_moving_threshold(setup):
    told = grpo(setup).score.args[-1].tell
    assert [x.func for x in told[:2]] == [raise_table, watchdog_table]
    assert told[2:] == (speed_table,)
    changed = grpo(setup, schedule_changes={"check_margin": False}).score
    assert not changed.args[-1].tell[0].args[0].check_margin
    table, speed = grpo(setup, reward="fixed").score.args[-1].tell
    assert (table.func, speed) == (watchdog_table, speed_table)


def test_supervised_training_is_the_other_method():
    names = [s.name for s in stages(**WHERE, **sections("method=sft"))]
    assert names == ["warm_start", "sft"]


def test_a_pretrained_policy_needs_no_warm_start(hub):
    with pytest.raises(
        ValueError, match="to write the same, --config.prompt.system=''"
    ):
        stages(**WHERE, **sections(f"model={hub}"))  # it never met a system turn
    (stage,) = stages(**WHERE, **sections(f"model={hub}", prompt__system=""))
    assert stage.name == "grpo" and stage.start is not None
    # it is told what to write
    batch = next(iter(stage.source))
    assert batch.prompt.question.tokens.shape[1] > 100
    stage.check()


def test_missing_model_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="Qwen2.5-VL-3B: expected a Hugging"):
        stages(**WHERE, **sections(f"model={tmp_path}/Qwen2.5-VL-3B"))


def test_unknown_method_is_refused_before_anything_is_loaded():
    chosen = sections()
    chosen["train"]["method"] = "ppo"
    chosen["data"]["source"] = "/nowhere"
    with pytest.raises(ValueError, match="'ppo'.*grpo, sft"):
        stages(**WHERE, **chosen)


def test_unknown_source_is_refused():
    with pytest.raises(FileNotFoundError, match="'mr_all'.*mr_aal"):
        stages(**WHERE, **sections(data__source="mr_all"))


def test_answers_must_fit(setup):
    longest = setup.answer_length
    assert grpo(setup, max_tokens=longest).steps == 4
    with pytest.raises(
        ValueError, match=rf"max_tokens=5 .*longest .* {longest} tokens"
    ):
        grpo(setup, max_tokens=5)


@pytest.mark.parametrize("reward", ["curriculum", "fixed", "raw_iou", "progress"])
def test_rewards_by_name(setup, reward):
    stage = grpo(setup, reward=reward, fixed_tau=0.55)
    assert stage.identity["options"]["reward"] == reward
    with pytest.raises(ValueError, match="'iou'.*curriculum, fixed"):
        grpo(setup, reward="iou")


def test_schedules_by_name():
    def made(name, changes, reward="curriculum"):
        return make_schedule(BoxRewards(reward, 0.4, name, changes, "step"))

    for name in SCHEDULES:
        schedule = made(name, {})
        assert 0 < schedule.start < schedule.target <= 1
    assert made("linear", {"window": 7, "keep": 0.25}).window == 7
    fixed = made("linear", {}, "fixed")
    assert fixed.start == fixed.target == 0.4
    for reward in ("curriculum", "fixed"):
        with pytest.raises(ValueError, match="'quadratic'.*piecewise, linear, cosine"):
            made("quadratic", {}, reward)
    with pytest.raises(ValueError, match="no windw; .*window"):
        made("linear", {"windw": 7})
    with pytest.raises(ValueError, match="window 0 >= 1"):
        made("linear", {"window": 0})


def test_parts_must_divide_the_batch_and_options_must_exist(setup):
    with pytest.raises(ValueError, match="decay 'linaer'.*linear"):
        grpo(setup, optim=OptimizerOptions(lr=1e-3, decay="linaer"))
    chosen = sections()
    chosen["train"]["grpo"]["optim"]["momentum"] = 0.9
    with pytest.raises(ValueError, match='"train.grpo.optim": no option "momentum"'):
        stages(**WHERE, **chosen)


def test_a_python_reward_splits_the_step(setup, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def short(completions, **columns):\n    return [1] * len(completions)\n"
    )
    weights = {"accuracy": 1.0, "format": 1.0, "short": 0.5}
    stage = grpo(
        setup, python_rewards={"short": f"{file}:short"}, reward_weights=weights
    )
    assert stage.system.prepare is not None
    with pytest.raises(FileNotFoundError, match="gone.py"):
        grpo(setup, python_rewards={"short": "gone.py:short"}, reward_weights=weights)

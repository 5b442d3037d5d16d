"""An audit replayed: the run's own numbers again, and others under other rewards."""

import json

import jax
import numpy as np
import pytest

from medjax.recipes import replay_medloc, replay_vrft_aug, vrft_aug
from medjax.recipes.boxes import stage as box_stages
from medjax.recipes.classes.data import LabelData, LabelPrompt
from medjax.recipes.classes.stage import label_stage
from medjax.recipes.policy.replay import replay_stage
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section
from medjax.runtime.audit import FOLDER, audit_files
from tests.oracles.box_loops import iou
from tests.recipes import smoke, smoke_labels
from tests.recipes.policy.bank import run_stage, with_bank

REWARD = """
def short(completions, **columns):
    return [None if "2" in text else 1 / (1 + len(text)) for text in completions]

def strict(completions, target, tau, **columns):
    return [tau * len(str(t)) / 100 for t in target]
"""
GRPO = {
    "train__grpo__steps": 9,
    "train__grpo__audit": "on",
    "train__grpo__max_tokens": 80,
    "train__grpo__patience": 0,
}
# a window of two steps and a first threshold that random boxes reach
MOVING = {
    "start": 0.02,
    "window": 2,
    "hit_rates": (0.05, 0.05, 0.05),
    "deviations": (1.0, 1.0, 1.0),
    "margin": -1.0,
}
BOXES = GRPO | {"train__grpo__schedule_changes": MOVING}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def audit(stage):
    """The lines of a stage's audit without its headers."""
    files = [path for _, _, path in audit_files(stage / FOLDER)]
    return [row for path in files for row in rows(path)[1:]]


def box_bank(several):
    """Answers with drawn boxes, some in a wrong format, one that says nothing."""
    rng = np.random.default_rng(0)
    found = ["no idea"]
    for n in range(24):
        x, y = rng.integers(0, 30, 2).tolist()
        corners = [x, y, x + 20, y + 18]
        box = f'{{"bbox_2d": {corners}}}'
        if several:
            box = f"[{', '.join([box] * (n % 3))}]"
        think = "<think>a shape</think>" if n % 5 else ""
        found.append(f"{think}<answer>{box}</answer>")
    return found


def box_stage(workdir, arg="", **changes):
    """Setup, stage and sections of a medloc run on drawn shapes."""
    changes = BOXES | changes
    setup = smoke.make_setup(arg, **changes)._replace(workdir=workdir)
    several = changes.get("data__answers") == "set"
    setup = with_bank(setup, box_bank(several), room=80)
    training = smoke.make_training(arg, **changes)
    return (
        setup,
        training,
        box_stages.box_stage("grpo", setup, *training.grpo, before={}),
    )


def replay_boxes(setup, arg="", **changes):
    """What is doubtful, and the lines of steps.jsonl."""
    training = smoke.make_training(arg, **(BOXES | changes))
    doubts = replay_stage(replay_medloc.box_replay("grpo", setup, *training.grpo))
    return doubts, rows(setup.workdir / "grpo/replay/steps.jsonl")


def assert_replayed(steps, metrics, *, names):
    """The metrics of each step are the run's own, what is counted exactly."""
    assert [row["step"] for row in steps] == [row["step"] for row in metrics]
    for row, ran in zip(steps, metrics, strict=True):
        here = row["replayed"]
        # what has no gradient in it; a fault is no metric of the file
        shared = here.keys() & ran.keys()
        assert shared >= {"reward", "hit_rate", "groups_effective", *names}
        for name in shared:
            # a float32 mean may be added up in another order
            np.testing.assert_allclose(here[name], ran[name], rtol=1e-6, err_msg=name)
        for name in ("hit_rate", "groups_effective", *names):
            assert here[name] == ran[name], name
        assert row["ran"]["hit_rate"] == pytest.approx(ran["hit_rate"], abs=1e-6)
        assert row["ran"]["reward"] == pytest.approx(ran["reward"], abs=1e-6)
        share = ran["groups_effective"] / ran["groups"]
        assert row["ran"]["signal"] == pytest.approx(share, abs=1e-6)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """A finished run of nine steps, resumed once in the middle."""
    workdir = tmp_path_factory.mktemp("boxes")
    setup, _, stage = box_stage(workdir)
    run_stage(stage._replace(steps=5), workdir, every=3)
    run_stage(stage, workdir, every=3)
    return setup


def test_every_completion_has_a_line_and_none_two(boxes):
    lines = audit(boxes.workdir / "grpo")
    places = [(line["step"], line["row"], line["completion"]) for line in lines]
    assert places == [
        (step, row, place)
        for step in range(1, 10)
        for row in range(16)
        for place in range(4)
    ]


def test_lines_say_what_an_oracle_says(boxes):
    lines = audit(boxes.workdir / "grpo")
    metrics = rows(boxes.workdir / "grpo/metrics.jsonl")
    tau = {row["step"]: row["tau"] for row in metrics}
    assert len(set(tau.values())) > 2  # it moved
    for line in lines:
        assert line["tau"] == pytest.approx(tau[line["step"]], abs=1e-7)
        assert line["query"] in boxes.parts.train.texts
        assert line["parsed"] == (line["box"] is not None)
        right = iou(line["box"], line["target"]) if line["parsed"] else 0.0
        assert line["iou"] == pytest.approx(right, abs=1e-5)
        paid = float(line["iou"] >= np.float32(line["tau"]))
        assert line["rewards"]["accuracy"] == paid == float(line["hit"])
        assert line["rewards"]["format"] == float(line["text"].startswith("<think>"))
        assert line["reward"] == sum(line["rewards"].values())
        assert line["kept"] == (not line["why"])
    groups = np.array([line["reward"] for line in lines]).reshape(-1, 4)
    spread = groups.std(axis=1, ddof=1, keepdims=True)
    expected = (groups - groups.mean(axis=1, keepdims=True)) / (spread + 1e-4)
    found = np.array([line["advantage"] for line in lines]).reshape(-1, 4)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for line, tied in zip(lines, np.repeat(spread[:, 0] == 0, 4), strict=True):
        assert line["kept"] != tied
        assert not tied or line["why"].startswith("all of its group earned the same: ")


def test_under_its_own_config_the_run_is_repeated(boxes, capsys):
    doubts, steps = replay_boxes(boxes)
    assert doubts == []
    metrics = rows(boxes.workdir / "grpo/metrics.jsonl")
    names = ("tau", "window_tau_next", "window_raised", "parse_rate")
    assert_replayed(steps, metrics, names=names)
    assert all(row["rank"] == pytest.approx(1) for row in steps)
    folder = boxes.workdir / "grpo/replay"
    assert (folder / "paths.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "tables.txt").read_text()
    assert "replay of grpo: 9 steps, 576 completions" in text
    assert "what is changed" not in text
    assert text.strip() in capsys.readouterr().out.replace("\n\n\n", "\n\n")


def test_the_mode_opens_a_run_by_its_sections(boxes):
    """Weights are not asked for: there are none of a policy of that size."""
    place = {"seed": 0, "workdir": boxes.workdir}
    found = smoke.sections(**BOXES)
    assert replay_medloc.replay(**place, **found) == []
    steps = rows(boxes.workdir / "grpo/replay/steps.jsonl")
    assert_replayed(steps, rows(boxes.workdir / "grpo/metrics.jsonl"), names=("tau",))
    with pytest.raises(ValueError, match=r"method=sft samples no completions"):
        replay_medloc.replay(**place, **smoke.sections("method=sft", **BOXES))


def test_other_rewards_are_paid_for_the_same_completions(boxes):
    lines = audit(boxes.workdir / "grpo")
    per_step = [lines[n : n + 64] for n in range(0, len(lines), 64)]
    doubts, steps = replay_boxes(boxes, train__grpo__reward="raw_iou")
    assert doubts == []
    for row, some in zip(steps, per_step, strict=True):
        mean = np.mean([line["iou"] + line["rewards"]["format"] for line in some])
        assert row["replayed"]["reward"] == pytest.approx(mean, abs=1e-6)
        assert row["replayed"]["tau"] == 0
        right = np.mean([line["iou"] >= 0.5 for line in some])  # not all of them
        assert row["replayed"]["hit_rate"] == pytest.approx(right, abs=1e-7)
    assert "reward" in (boxes.workdir / "grpo/replay/tables.txt").read_text()
    # a threshold that stays; nothing else of the config moves with it
    fixed = {"train__grpo__reward": "fixed", "train__grpo__fixed_tau": 0.1}
    _, steps = replay_boxes(boxes, **fixed)
    for row, some in zip(steps, per_step, strict=True):
        hits = np.mean([line["iou"] >= np.float32(0.1) for line in some])
        assert row["replayed"]["hit_rate"] == pytest.approx(hits, abs=1e-7)
        assert row["ran"]["threshold"] == some[0]["tau"]
    # another weight and another schedule: tau climbs by steps of its own
    slow = {"train__grpo__schedule_changes": MOVING | {"steps": (0.01, 0.01, 0.01)}}
    _, steps = replay_boxes(boxes, **slow, train__grpo__reward_weights__format=0.0)
    last = [row["replayed"]["tau"] for row in steps][-1]
    assert MOVING["start"] < last < steps[-1]["ran"]["threshold"]


def test_what_rewards_do_not_depend_on_is_refused(boxes):
    with pytest.raises(
        ValueError, match=r"grpo\.sampling\.temperature: 0\.9 in the au"
    ):
        replay_boxes(boxes, train__grpo__sampling__temperature=0.5)
    with pytest.raises(ValueError, match=r"train\.grpo\.group: 4 in the audit, 8 here"):
        replay_boxes(boxes, train__grpo__group=8)


def spoil(boxes, tmp_path, change):
    """A copy of the run's audit with its lines changed; the setup of the copy."""
    trail = tmp_path / "grpo" / FOLDER
    trail.mkdir(parents=True)
    first, second = audit_files(boxes.workdir / "grpo" / FOLDER)  # it was resumed
    lines = change(rows(first[2]) + rows(second[2])[1:])
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (trail / first[2].name).write_text(text)
    return boxes._replace(workdir=tmp_path)


def in_header(**values):
    return lambda lines: [lines[0] | values, *lines[1:]]


def other_box(lines):
    place = next(n for n, line in enumerate(lines) if line.get("parsed"))
    lines[place]["box"][0] += 1
    return lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_header(audit=9), r"line 1: audit 9; expected lines of version 1"),
        (
            in_header(readers=0),
            r"line 1: completions were read by readers of version 0",
        ),
        (in_header(tokenizer="abc"), r"tokenizer: abc in the audit, [0-9a-f]+ here"),
        (in_header(ends={}), r"ends\.pad: None in the audit, \d+ here"),
        (lambda x: [x[0], *x[65:]], r"step 1 is missing, the next is 2"),
        (
            lambda x: x[:64] + x[65:],
            r"step 1 has 63 lines; expected 64, 4 for each of 16",
        ),
        (lambda x: x[:1], r"its audit has no step"),
        (other_box, r"step 1, row 0, .* is read otherwise .*: box was"),
        (lambda x: [x[0], [1]], r"line 2: expected a JSON object with a step"),
    ],
)
def test_an_audit_that_does_not_fit_is_refused_by_name(
    boxes, tmp_path, change, message
):
    setup = spoil(boxes, tmp_path, change)
    with pytest.raises(ValueError, match=message):
        replay_boxes(setup)


def test_a_run_without_an_audit_is_told_how_to_get_one(boxes, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.grpo\.audit=on"):
        replay_boxes(boxes._replace(workdir=tmp_path))


def test_two_processes_write_what_one_replays(boxes, tmp_path, monkeypatch):
    """Each has the trace of all rows, and writes those that are its own."""
    whole = audit(boxes.workdir / "grpo")
    setup, _, stage = box_stage(tmp_path)
    for index in range(2):
        with monkeypatch.context() as patch:
            run_stage(stage._replace(audit=shared(stage.audit, patch, index)), tmp_path)
            for part in ("checkpoints", "metrics.jsonl"):
                path = tmp_path / "grpo" / part
                path.rename(tmp_path / f"{part}{index}")
    names = [path.name for _, _, path in audit_files(tmp_path / "grpo" / FOLDER)]
    assert names == ["process-000-00000.jsonl", "process-001-00000.jsonl"]
    both = audit(tmp_path / "grpo")
    assert len(both) == len(whole)
    assert sorted(map(json.dumps, both)) == sorted(map(json.dumps, whole))
    doubts, steps = replay_boxes(setup)
    assert doubts == []
    assert_replayed(steps, rows(tmp_path / "metrics.jsonl1"), names=("tau",))


def shared(made, patch, index):
    """An audit that is written as process `index` of two does."""
    from medjax.recipes.policy import audit as module
    from medjax.runtime import audit as writer

    class Two:
        process_count = staticmethod(lambda: 2)
        process_index = staticmethod(lambda: index)
        tree = jax.tree
        __version__ = jax.__version__

    patch.setattr(module, "jax", Two)
    patch.setattr(writer, "jax", Two)
    return made


def test_sets_of_boxes_are_replayed(tmp_path):
    changes = {"data__answers": "set", "train__grpo__steps": 4}
    setup, _, stage = box_stage(tmp_path, **changes)
    run_stage(stage, tmp_path)
    doubts, steps = replay_boxes(setup, **changes)
    assert doubts == []
    metrics = rows(tmp_path / "grpo/metrics.jsonl")
    assert_replayed(steps, metrics, names=("tau",))
    lines = audit(tmp_path / "grpo")
    assert {len(line["boxes"]) for line in lines if line["parsed"]} == {0, 1, 2}
    assert all(line["boxes"] is None for line in lines if not line["parsed"])


def test_rewards_in_python_are_called_again(tmp_path):
    file = tmp_path / "rewards.py"
    file.write_text(REWARD)
    python = {"short": f"{file}:short", "strict": f"{file}:strict"}
    changes = {"train__grpo__python_rewards": python, "train__grpo__steps": 4}
    setup, _, stage = box_stage(tmp_path, **changes)
    run_stage(stage, tmp_path)
    lines = audit(tmp_path / "grpo")
    some = [line["rewards"]["short"] for line in lines]
    assert None in some
    for line, value in zip(lines, some, strict=True):
        assert (value is None) == ("2" in line["text"])
        assert value is None or value == pytest.approx(1 / (1 + len(line["text"])))
    doubts, steps = replay_boxes(setup, **changes)
    assert doubts == []
    metrics = rows(tmp_path / "grpo/metrics.jsonl")
    names = ("tau", "reward_short_unscorable")
    assert_replayed(steps, metrics, names=names)
    # without them, and with a file that has become another
    _, steps = replay_boxes(setup, train__grpo__steps=4)
    assert "reward_short" not in steps[0]["replayed"]
    file.write_text(REWARD.replace("1 / (1", "2 / (1"))
    doubts, _ = replay_boxes(setup, **changes)
    assert "differs from it from step 1 on; has the file of a reward" in doubts[0]


def label_sections(arg, **changes):
    return smoke_labels.label_sections(arg, **(GRPO | changes))


def label_run(workdir, arg, **changes):
    """A vrft_aug run on drawn shapes whose policy draws whole answers."""
    found = label_sections(arg, **changes)
    opened = vrft_aug.open_run(
        read_section(LabelData, "data", found["data"]),
        read_section(LabelPrompt, "prompt", found["prompt"]),
        vrft_aug.read_localisation(found["localisation"]),
        read_section(Evaluation, "evaluation", found["evaluation"]),
        policy=found["policy"],
        seed=0,
        workdir=workdir,
    )
    run = opened.run
    training = vrft_aug.read_training(found["warm_start"], found["train"])
    decode = run.setup.policy.tokenizer.decode
    right = [
        decode(row[mask], skip_special_tokens=True)
        for row, mask in zip(run.answers, run.answers_mask, strict=True)
    ]
    bare = [text[text.index("<answer>") :] for text in right]
    bank = [*right, *bare, "no idea", right[0].replace("<think>", "<think> many ")]
    return run._replace(setup=with_bank(run.setup, bank, room=80)), training


@pytest.mark.parametrize("task", ["shapes", "shape_size"])
def test_classes_are_replayed(tmp_path, task):
    arg = f"task={task},policy=off,recite=negative"
    changes = {"train__grpo__steps": 5}
    run, training = label_run(tmp_path, arg, **changes)
    stage = label_stage("grpo", run, *training.grpo, before={})
    run_stage(stage, tmp_path)
    metrics = rows(tmp_path / "grpo/metrics.jsonl")
    doubts = replay_stage(replay_vrft_aug.label_replay("grpo", run, *training.grpo))
    assert doubts == []
    steps = rows(tmp_path / "grpo/replay/steps.jsonl")
    assert_replayed(steps, metrics, names=("think_words", "parse_rate"))
    classes = run.source.wording.task.classes
    lines = audit(tmp_path / "grpo")
    assert {line["label"] for line in lines} > {None}
    for line in lines:
        assert line["target"] in classes
        assert line["hit"] == (line["label"] == line["target"])
        assert (line["label"] is None) == (not line["parsed"])
        assert line["rewards"]["accuracy"] == float(line["hit"])
    found = label_sections(arg, **changes)
    assert replay_vrft_aug.replay(seed=0, workdir=tmp_path, **found) == []
    # a format that asks for more words than any answer has
    options, rewards = training.grpo
    rewards = rewards._replace(min_words=60)
    replay_stage(replay_vrft_aug.label_replay("grpo", run, options, rewards))
    steps = rows(tmp_path / "grpo/replay/steps.jsonl")
    assert all(row["replayed"]["reward_format"] == 0 for row in steps)

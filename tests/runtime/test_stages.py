import json

import chex
import jax
import numpy as np
import pytest

from medjax.runtime.errors import CheckpointError
from medjax.runtime.stages import Stage, evaluate_checkpoint, mean_scores, run_stages
from medjax.sharding import make_mesh
from tests.runtime import toy_system as toy

RUN = {
    "rules": toy.RULES,
    "seed": 0,
}


def held_out():
    batches = iter(toy.source(seed=9))
    return [(next(batches), i) for i in range(3)]


def two_stages(*, steps=(4, 5), **options):
    return [
        Stage(
            name=name,
            system=toy.build(**options),
            source=toy.source(seed=index),
            steps=steps[index],
            identity={"rate": 1},
            show=("loss", "tau"),
            eval_batches=held_out,
            evaluate_every=2,
            facts={"trained_with": {"color": "red"}},
        )
        for index, name in enumerate(("warm_start", "grpo"))
    ]


def run(stages, workdir, mesh=None):
    return run_stages(
        stages,
        mesh=mesh or make_mesh(toy.ONE, jax.devices()[:1]),
        workdir=workdir,
        checkpoint_every=2,
        keep=2,
        on_nonfinite="stop",
        facts={"config": {"a": 1}},
        **RUN,
    )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_stages_follow_each_other_and_finished_ones_are_left_alone(tmp_path):
    whole = run(two_stages(), tmp_path / "whole")
    run(two_stages()[:1], tmp_path / "parts")
    manifest = (tmp_path / "parts" / "warm_start" / "manifest.json").read_text()
    run(two_stages(steps=(4, 3)), tmp_path / "parts")
    parts = run(two_stages(), tmp_path / "parts")
    chex.assert_trees_all_equal(whole.params, parts.params, strict=True)
    again = (tmp_path / "parts" / "warm_start" / "manifest.json").read_text()
    assert again == manifest
    (record,) = json.loads(manifest)
    assert record["trained_with"] == {"color": "red"}
    assert record["stage"] == "warm_start" and record["config"] == {"a": 1}
    for name, steps in (("warm_start", [2, 4]), ("grpo", [2, 4, 5])):
        found = rows(tmp_path / "whole" / name / "eval.jsonl")
        assert [row["step"] for row in found] == steps


def test_the_second_stage_starts_from_the_first_ones_parameters(tmp_path):
    stages = two_stages(steps=(3, 1))
    stages[1] = stages[1]._replace(system=toy.build(learning_rate=0.0))
    run(stages, tmp_path)
    first, second = (rows(tmp_path / s.name / "eval.jsonl")[-1] for s in stages)
    assert first["error"] == second["error"]
    # noise differs between stages of one seed
    assert int(second["step"]) == 1


def test_a_finished_stage_of_another_config_is_refused(tmp_path):
    run(two_stages(), tmp_path)
    changed = two_stages()
    changed[0] = changed[0]._replace(identity={"rate": 2})
    with pytest.raises(CheckpointError, match="rate: the checkpoint has 1"):
        run(changed, tmp_path)
    with pytest.raises(CheckpointError, match="seed: the checkpoint has 0"):
        run_stages(
            two_stages(),
            mesh=make_mesh(toy.ONE, jax.devices()[:1]),
            rules=toy.RULES,
            seed=1,
            workdir=tmp_path,
            checkpoint_every=2,
            keep=2,
            on_nonfinite="stop",
            facts={},
        )


def test_a_refused_start_leaves_no_record(tmp_path):
    """Of an unfinished last stage as of a finished first one."""
    stages = two_stages(steps=(4, 5))
    run(stages, tmp_path)
    manifests = [tmp_path / name / "manifest.json" for name in ("warm_start", "grpo")]
    before = [path.read_text() for path in manifests]
    longer = stages[1]._replace(identity={"rate": 2}, steps=9)
    with pytest.raises(CheckpointError, match="rate: the checkpoint has 1"):
        run([stages[0], longer], tmp_path)
    assert [path.read_text() for path in manifests] == before


def test_scores_are_the_callers_and_get_a_folder(tmp_path):
    seen = []

    def score(results, folder):
        errors = [metrics["error"] for _, metrics, _ in results]
        seen.append(folder)
        return {"worst": float(np.concatenate(errors).max())}

    (stage, _) = two_stages()
    run([stage._replace(score=score)], tmp_path)
    assert seen == [tmp_path / "warm_start" / "eval" / s for s in ("2", "4")]
    assert rows(tmp_path / "warm_start" / "eval.jsonl")[-1].keys() == {"step", "worst"}


def test_evaluating_a_workdir_a_stage_folder_or_weights(tmp_path):
    stages = two_stages()
    state = run(stages, tmp_path / "run")
    expected = rows(tmp_path / "run" / "grpo" / "eval.jsonl")[-1]["error"]
    params = jax.tree.map(np.asarray, state.params)

    (tmp_path / "hub").mkdir()

    def load(path, shardings):
        assert path.name == "hub" and shardings.keys() == params.keys()
        return params

    for path in ("run", "run/grpo", "hub"):
        found = evaluate_checkpoint(
            stages[-1],
            tmp_path / path,
            load=load,
            mesh=make_mesh(toy.MESH),
            workdir=tmp_path / "eval",
            **RUN,
        )
        assert found["error"] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        evaluate_checkpoint(
            stages[-1],
            tmp_path / "none",
            load=load,
            mesh=make_mesh(toy.MESH),
            workdir=tmp_path,
            **RUN,
        )


def test_a_checkpoint_that_a_stage_does_not_accept_is_not_evaluated(tmp_path):
    stages = two_stages()
    run(stages, tmp_path / "run")
    seen = []

    def accepts(identity):
        seen.append(identity)
        raise ValueError("trained with other words")

    with pytest.raises(ValueError, match="other words"):
        evaluate_checkpoint(
            stages[-1]._replace(accepts=accepts),
            tmp_path / "run",
            load=lambda *_: {},
            mesh=make_mesh(toy.MESH),
            workdir=tmp_path / "eval",
            **RUN,
        )
    assert seen == [{"rate": 1, "seed": 0}]


def test_a_folder_is_accepted_by_what_it_says_of_its_training(tmp_path):
    seen = []
    stage = two_stages()[-1]._replace(accepts=seen.append)
    (tmp_path / "hub").mkdir()

    def load(path, shardings):
        raise ValueError(f"{len(seen)} identities before {path.name}")

    with pytest.raises(ValueError, match="1 identities before hub"):
        evaluate_checkpoint(
            stage,
            tmp_path / "hub",
            load=load,
            describe=lambda path: {"folder": path.name},
            mesh=make_mesh(toy.MESH),
            workdir=tmp_path,
            **RUN,
        )
    assert seen == [{"folder": "hub"}]


def test_a_stage_is_checked_before_it_trains(tmp_path):
    def check():
        raise ValueError("self-test")

    first, second = two_stages()
    with pytest.raises(ValueError, match="self-test"):
        run([first, second._replace(check=check)], tmp_path)
    assert (tmp_path / "warm_start" / "checkpoints" / "4").is_dir()
    assert not (tmp_path / "grpo").exists()
    with pytest.raises(ValueError, match="no stages"):
        run([], tmp_path)


def test_a_missing_evaluation_of_an_early_stage_is_made_up(tmp_path):
    run(two_stages(), tmp_path)
    path = tmp_path / "warm_start" / "eval.jsonl"
    whole = path.read_text()
    path.write_text(whole.splitlines(keepends=True)[0])
    run(two_stages(), tmp_path)
    assert path.read_text() == whole


def test_two_stages_of_one_name_are_refused(tmp_path):
    first, second = two_stages()
    with pytest.raises(ValueError, match="stages grpo, grpo: grpo comes twice"):
        run([first._replace(name="grpo"), second], tmp_path)
    assert not list(tmp_path.iterdir())


def test_mean_scores_of_flags_and_of_what_is_missing():
    results = [
        (None, {"hit": np.array([True, False]), "iou": np.array([0.5, np.nan])}, None),
        (None, {"hit": np.array([False, False]), "none": np.zeros(0)}, None),
    ]
    means = mean_scores(iter(results), None)
    assert means["hit"] == 0.25
    assert np.isnan(means["iou"]) and np.isnan(means["none"])
    assert mean_scores(iter(()), None) == {}

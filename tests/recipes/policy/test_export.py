"""--mode=export of policies about boxes and classes: the folder, its card, refusals."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data import batches
from medjax.data.volumes.ct import CHEST
from medjax.evals.tables import Table
from medjax.recipes import medloc, vrft_aug
from medjax.recipes.policy.card import (
    DataFacts,
    bare_words,
    data_rows,
    run_facts,
    score_rows,
)
from medjax.recipes.policy.opening import describe, load_params
from medjax.recipes.policy.scoring import write_evaluation
from medjax.runtime import checkpoint
from medjax.runtime.errors import CheckpointError
from medjax.runtime.writer import write_manifest
from medjax.types import TrainState
from tests.recipes import smoke, smoke_labels
from tests.recipes.pictures import box_lines, save_scenes, write_boxes

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
    pytest.mark.usefixtures("own_cache"),
]
STEP = 4  # all of smoke
SCORES = Table(
    "all answers, 95 % intervals over slices",
    ("", "n", "mIoU"),
    (("grpo", "16", "0.512 [0.498, 0.530]"), ("no image: a | b", "16", "0.1 [0, 1]")),
)
STRUCTURES = Table("grpo by structure", ("", "n"), (("disc", "3"),))


def leave(stage, workdir, config, *, evaluated=STEP):
    """What a stage leaves, its weights random: no step is computed."""
    shapes = jax.eval_shape(stage.system.init, jax.random.key(0))
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes.params
    )
    state = TrainState(params, (), jnp.asarray(STEP, jnp.int32))
    folder = workdir / stage.name
    with checkpoint.open_checkpoints(folder / "checkpoints", keep=1) as manager:
        checkpoint.save(
            manager,
            STEP,
            state,
            root=jax.random.key(0),
            position="{}",
            identity={**stage.identity, "seed": 0},
            counters={},
        )
    write_manifest(folder, stage=stage.name, config=config)
    write_evaluation(
        folder / "eval" / str(evaluated), [], [SCORES, STRUCTURES], printed=0
    )
    return params


def export(module, sections, workdir, devices, **more):
    return module.export(seed=0, workdir=workdir, **sections, **devices, **more)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, devices):
    """A medloc run's workdir after its export, its weights and its sections."""
    workdir = tmp_path_factory.mktemp("run")
    sections = smoke.sections()
    *_, stage = medloc.stages(seed=0, workdir=workdir, **sections)
    params = leave(stage, workdir, sections)
    assert export(medloc, sections, workdir, devices) == []
    return workdir, params, sections


def test_the_folder_holds_the_weights_and_opens_again(exported):
    workdir, params, sections = exported
    folder = workdir / "policy"
    here = jax.tree.map(lambda x: x.sharding, params)
    found = load_params(folder, here)
    jax.tree.map(np.testing.assert_array_equal, params, found)
    assert {x.dtype.name for x in jax.tree.leaves(found)} == {"float32"}
    sections = sections | {"policy": sections["policy"] | {"path": str(folder)}}
    first, *_ = medloc.stages(seed=0, workdir=workdir / "next", **sections)
    assert first.start is not None  # training goes on from it
    names = {path.name for path in folder.iterdir()}
    assert {"generation_config.json", "preprocessor_config.json"} <= names
    assert {"tokenizer.json", "README.md", "medjax.json"} <= names
    assert not (workdir / "policy.part").exists()
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(ValueError, match=r"config.json \(expected sha256"):
        describe(folder)


def test_the_card_tells_scores_data_and_what_it_is_not_for(exported):
    text = (exported[0] / "policy" / "README.md").read_text()
    for piece in (
        "# A policy that puts boxes round what it is asked for",
        "float32: the stage `grpo` of a `medloc` run of medjax, trained from random",
        "no medical device",
        "| steps | 4 |",
        "| grpo | 16 | 0.512 [0.498, 0.530] |",
        "| no image: a \\| b | 16 |",
        "all answers, 95 % intervals over slices:",
        "Pictures that medjax drew (`synthetic`)",
        "## What it is not for",
        "vLLM serves it was not tested",
        "- system: no system turn",
        "--mode=eval --checkpoint=FOLDER",
        "from transformers import (\n    AutoImageProcessor,",
    ):
        assert piece in text, piece
    assert "by structure" not in text and "not finished" not in text
    assert "coordinate ramps: not used" in text and "add_ramps" not in text


def test_a_card_says_that_pictures_need_ramps(devices, tmp_path):
    sections = smoke.sections(data__ramps=True)
    *_, stage = medloc.stages(seed=0, workdir=tmp_path, **sections)
    leave(stage, tmp_path, sections)
    export(medloc, sections, tmp_path, devices)
    text = (tmp_path / "policy/README.md").read_text()
    assert "coordinate ramps: used" in text
    assert "`medjax.data.batches.add_ramps` draws them" in text
    assert callable(batches.add_ramps)


def test_a_folder_that_is_there_stays(exported, devices):
    workdir, _, sections = exported
    with pytest.raises(FileExistsError, match="move or remove it"):
        export(medloc, sections, workdir, devices)


def test_another_stage_or_task_is_refused_by_name(exported, devices, tmp_path):
    workdir, _, sections = exported
    given = {"checkpoint": str(workdir)}
    with pytest.raises(
        ValueError, match="policy is no stage of the config; expected w"
    ):
        place = tmp_path / "policy"
        (place / "checkpoints").mkdir(parents=True)
        export(medloc, sections, tmp_path / "a", devices, checkpoint=str(place))
    other = smoke.sections(data__answers="set")
    with pytest.raises(CheckpointError, match=r"belongs to another run:[\s\S]*answers"):
        export(medloc, other, tmp_path / "a", devices, **given)
    labels = smoke_labels.label_sections("policy=off")
    with pytest.raises(CheckpointError, match=r"belongs to another run:[\s\S]*data"):
        export(vrft_aug, labels, tmp_path / "a", devices, **given)
    assert not (tmp_path / "a" / "policy").exists()


def test_a_run_without_checkpoint_names_what_there_is(exported, devices, tmp_path):
    workdir, _, sections = exported
    with pytest.raises(FileNotFoundError, match="no checkpoint to export; train first"):
        export(medloc, sections, tmp_path, devices)
    shutil.copytree(workdir / "grpo", tmp_path / "warm_start")
    with pytest.raises(FileNotFoundError, match=r"--checkpoint=.*warm_start"):
        export(medloc, sections, tmp_path, devices)
    with pytest.raises(CheckpointError, match="options"):  # of another stage
        place = str(tmp_path / "warm_start")
        export(medloc, sections, tmp_path, devices, checkpoint=place)
    shutil.copytree(workdir / "grpo", tmp_path / "grpo")
    (tmp_path / "grpo" / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"manifest.json: no such file"):
        export(medloc, sections, tmp_path, devices)


def test_an_unfinished_stage_is_exported_and_doubtful(exported, devices, tmp_path):
    sections = smoke.sections(train__grpo__steps=9)
    *_, stage = medloc.stages(seed=0, workdir=tmp_path, **sections)
    leave(stage, tmp_path, sections, evaluated=1)
    (doubt,) = export(medloc, sections, tmp_path, devices)
    assert "exported at step 4 of 9 of grpo" in doubt
    text = (tmp_path / "policy" / "README.md").read_text()
    assert "| steps | 4 of 9: **training is not finished** |" in text
    assert "**It was at step 1, the weights are of 4.**" in text


def test_the_card_of_a_users_list_names_nobody(devices, tmp_path):
    folder = tmp_path / "Jane Doe"
    patients = {"patient": lambda n: f"MRN{n // 2}"}
    path = write_boxes(folder, box_lines(save_scenes(folder, 12), **patients))
    sections = smoke.sections(f"data={path}")
    workdir = tmp_path / "run"
    *_, stage = medloc.stages(seed=0, workdir=workdir, **sections)
    leave(stage, workdir, sections)
    export(medloc, sections, workdir, devices)
    for file in (workdir / "policy").iterdir():
        content = file.read_bytes()
        assert b"Jane" not in content and b"MRN" not in content, file
    text = (workdir / "policy" / "README.md").read_text()
    assert "A user's own list, `boxes.jsonl`:" in text and "lines to train" in text


def test_classes_are_exported_with_their_names(devices, tmp_path):
    sections = smoke_labels.label_sections("policy=off")
    *_, stage = vrft_aug.stages(seed=0, workdir=tmp_path, **sections)
    leave(stage, tmp_path, sections)
    assert export(vrft_aug, sections, tmp_path, devices) == []
    text = (tmp_path / "policy" / "README.md").read_text()
    assert "of a `vrft_aug` run" in text and "- 0: tiny" in text
    assert "| grpo | 16 |" in text


def test_what_is_told_of_data_follows_its_kind():
    parts = smoke.make_setup().parts
    ours = parts._replace(identity={"packs": {CHEST.package: CHEST.sha256}})
    (line,) = data_rows(DataFacts("ct_organs", ours, (CHEST,)))
    assert CHEST.licence in line and CHEST.credit in line
    (line,) = data_rows(DataFacts("/x/chestmnist.npz", parts, (CHEST,)))
    assert "`chestmnist.npz`" in line and "MedMNIST" in line and "/x" not in line


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (
            "--config=configs/medloc.py:data=/home/Jane Doe/boxes.jsonl,model=/x/Qwen",
            "--config=configs/medloc.py:data=.../boxes.jsonl,model=.../Qwen",
        ),
        ("--config.policy.path=../m/x", "--config.policy.path=.../x"),
        (
            '--config.evaluation.beside={"sft": "w/Jane/eval"}',
            '--config.evaluation.beside={"sft": ".../eval"}',
        ),
        ("--config.seed=3", "--config.seed=3"),
    ],
)
def test_commands_lose_their_folders(argument, expected):
    assert bare_words(argument) == expected


def test_a_stage_that_was_never_evaluated_says_so(tmp_path):
    assert score_rows(tmp_path, name="grpo", step=3) == ["**Never evaluated.**"]
    (tmp_path / "eval" / "9").mkdir(parents=True)
    (tmp_path / "eval" / "9" / "tables.json").write_text(json.dumps([]))
    assert score_rows(tmp_path, name="grpo", step=3) == ["**Never evaluated.**"]


def test_facts_are_those_of_all_starts(tmp_path):
    record = {"command": ["python", "run.py", "--workdir=/w", "--config.seed=1"]}
    starts = [
        record | {"git": git, "versions": {"medjax": version}}
        for git, version in (("a1", "0.1"), ("b2", "0.2"), ("a1", "0.2"))
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(starts))
    facts = run_facts(tmp_path, seed=1, steps=(3, 4))
    assert facts.command == "python run.py --config.seed=1"
    assert facts.commits == ("a1", "b2") and facts.versions == {"medjax": "0.2"}

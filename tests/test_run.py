"""The command line from end to end, on drawn shapes: train, resume, evaluate, refuse.

The first run is a process of its own, as a user starts it. The others are forked from
one that has imported everything, which takes longer than what they do.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from configs.medloc import get_config
from medjax.recipes.policy.evaluating import scoring
from medjax.runtime import checkpoint
from tests.data.medmnist_files import write_chest, write_volumes
from tests.golden.trees import fast_compilation
from tests.oracles.hub_answers import answer_text
from tests.recipes.pictures import box_lines, save_scenes, write_boxes
from tests.recipes.smoke import setup_of

REPO = pathlib.Path(__file__).resolve().parents[1]
CONFIG, STEPS = "configs/medloc.py:smoke", 8
SMALL = ("--config.checkpoint.every=3", f"--config.train.grpo.steps={STEPS}")

FORKS = """
import gc, json, os, resource, runpy, sys
import matplotlib.pyplot, optax.contrib, transformers
import medjax.recipes.medloc, medjax.recipes.vrft_aug
import medjax.report.page, medjax.report.curves, medjax.report.classes
from transformers import AutoTokenizer, Qwen2Tokenizer
from tokenizers.trainers import BpeTrainer
gc.freeze()
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(job[name], os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
        os.environ.update(job["env"])
        if job["largest_file"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
        sys.argv = ["run.py", *job["arguments"]]
        runpy.run_path("run.py", run_name="__main__")
        sys.exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def environment(**more):
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return env | {"XLA_FLAGS": fast_compilation(), "PYTHONPATH": str(REPO)} | more


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return f"--compilation_cache={tmp_path_factory.mktemp('programs')}"


@pytest.fixture(scope="module")
def forks():
    command = [sys.executable, "-c", FORKS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # with GLIBC_TUNABLES set run.py does not start itself anew
    env = environment(GLIBC_TUNABLES="glibc.malloc.hugetlb=1")
    with subprocess.Popen(command, cwd=REPO, env=env, text=True, **pipes) as process:
        yield process
        process.stdin.close()


class Finished:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(forks, cache, tmp_path):
    """Run a command; `until` is called while it runs and kills it by returning True."""

    def start(*arguments, config=CONFIG, until=None, largest_file=0, **env):
        files = {
            name: tmp_path / f"{time.monotonic_ns()}.{name}" for name in ("out", "err")
        }
        job = {name: str(path) for name, path in files.items()}
        job |= {"env": env, "largest_file": largest_file}
        given = [f"--config={config}"] if config else []
        job["arguments"] = [*given, cache, *map(str, arguments)]
        forks.stdin.write(json.dumps(job) + "\n")
        forks.stdin.flush()
        pid = int(forks.stdout.readline())
        while until is not None and pathlib.Path(f"/proc/{pid}").exists():
            if until():
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        code = int(forks.stdout.readline())
        return Finished(code, *(path.read_text() for path in files.values()))

    return start


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A finished run's folder and what it said, from a process of its own."""
    workdir = tmp_path_factory.mktemp("trained")
    done = subprocess.run(
        [
            sys.executable,
            "run.py",
            f"--config={CONFIG}",
            cache,
            *SMALL,
            f"--workdir={workdir}",
        ],
        cwd=REPO,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return workdir, done


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def final(workdir, step=STEPS):
    """Every array of grpo's last checkpoint, by name."""
    with checkpoint.open_checkpoints(workdir / "grpo/checkpoints", keep=2) as manager:
        restore = ocp.args.Composite(state=ocp.args.PyTreeRestore())
        return manager.restore(step, args=restore)["state"]


def assert_one_message(done, *pieces):
    """Exit code 1 and one clear message, no traceback."""
    assert done.code == 1, (done.code, done.out, done.err)
    assert "Traceback" not in done.err, done.err
    for piece in pieces:
        assert piece in done.err, (piece, done.err)


def test_training_writes_everything(trained):
    workdir, done = trained
    for stage, steps in (("warm_start", 4), ("grpo", STEPS)):
        folder = workdir / stage
        assert [r["step"] for r in rows(folder / "metrics.jsonl")] == [
            *range(1, steps + 1)
        ]
        (evaluated,) = rows(folder / "eval.jsonl")
        assert evaluated["step"] == steps and evaluated["n"] == 16
        assert "mIoU" in evaluated
        answers = rows(folder / "eval" / str(steps) / "answers.jsonl")
        assert len(answers) == 16
        page = (folder / "report.html").read_text()
        assert "no image: mean box" in page and "data:image/png" in page
        assert list((folder / "figures").glob("*.png"))
        (manifest,) = json.loads((folder / "manifest.json").read_text())
        assert manifest["config"]["system"] == "medloc"
        assert manifest["trained_with"]["images"]["max_pixels"] == 56 * 56
        assert manifest["stage"] == stage and manifest["versions"]["jax"]
    assert (workdir / "grpo/figures/threshold.png").exists()
    assert {"tau", "hit_rate", "groups_effective"} <= set(
        rows(workdir / "grpo/metrics.jsonl")[0]
    )
    # the second stage is shown beside the first and what sees no image
    table = (workdir / f"grpo/eval/{STEPS}/tables.txt").read_text()
    for name in ("grpo", "warm_start", "no image: grpo", "linear probe"):
        assert f"\n{name} " in table
    assert "grpo" in done.stdout
    assert f"grpo {STEPS}/{STEPS} | tau" in done.stderr and "ETA" in done.stderr
    assert "PyTorch" not in done.stderr and "warning" not in done.stderr


def test_the_same_command_again_does_nothing_twice(trained, run):
    workdir, _ = trained
    kept = ("metrics.jsonl", "eval.jsonl")
    files = [workdir / s / name for s in ("warm_start", "grpo") for name in kept]
    files.append(workdir / "warm_start/manifest.json")
    files += sorted((workdir / "grpo/checkpoints").rglob("*"))
    before = {file: file.stat().st_mtime_ns for file in files if file.is_file()}
    texts = [file.read_text() for file in files[:4]]
    done = run(*SMALL, f"--workdir={workdir}")
    assert done.code == 0, done.err
    assert "compiling" not in done.err
    assert [file.read_text() for file in files[:4]] == texts
    again = {file: file.stat().st_mtime_ns for file in before}
    changed = {file.name for file in before if again[file] != before[file]}
    assert changed <= set(kept)  # rewritten with the same rows
    assert len(json.loads((workdir / "grpo/manifest.json").read_text())) == 2


@pytest.mark.filterwarnings("ignore:Sharding info not provided")  # orbax: one host
def test_killed_and_resumed_equals_the_unbroken_run(trained, run, tmp_path):
    whole, parts = trained[0], tmp_path / "parts"
    shutil.copytree(whole / "warm_start", parts / "warm_start")
    metrics = parts / "grpo/metrics.jsonl"

    def fifth_step():
        return metrics.exists() and metrics.read_text().count("\n") >= 5

    killed = run(*SMALL, f"--workdir={parts}", until=fifth_step)
    assert killed.code == -signal.SIGKILL, killed.err
    assert not (parts / "grpo/eval.jsonl").read_text()
    # the checkpoint of step 3 is written beside later steps: it may be unfinished
    saved = (parts / "grpo/checkpoints/3").is_dir()
    resumed = run(*SMALL, f"--workdir={parts}")
    assert resumed.code == 0, resumed.err
    assert ("resumed from step" in resumed.err) == saved
    left, right = final(whole), final(parts)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    for name in ("metrics.jsonl", "eval.jsonl", f"eval/{STEPS}/answers.jsonl"):
        assert rows(parts / "grpo" / name) == rows(whole / "grpo" / name)


def test_evaluating_a_workdir_gives_its_own_numbers(trained, run, tmp_path):
    done = run("--mode=eval", f"--checkpoint={trained[0]}", f"--workdir={tmp_path}")
    assert done.code == 0, done.err
    found = tmp_path / f"grpo/eval/{STEPS}/answers.jsonl"
    assert rows(found) == rows(trained[0] / f"grpo/eval/{STEPS}/answers.jsonl")
    assert "no image: mean box" in done.out
    assert (tmp_path / "grpo/report.html").exists()


@pytest.fixture(scope="module")
def hub(trained, tmp_path_factory):
    """The trained policy as a Hugging Face folder."""
    policy = setup_of(get_config("smoke").to_dict()).policy
    shapes = jax.eval_shape(policy.model.init, jax.random.key(0))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes
    )
    params = checkpoint.restore_params(trained[0] / "grpo/checkpoints", abstract)
    path = tmp_path_factory.mktemp("hub") / "policy"
    policy.save(path, params)
    return path


AS_TRAINED = (  # a pretrained policy is prompted otherwise, and runs in bfloat16
    "--config.prompt.system=",
    "--config.prompt.suffix=",
    "--config.prompt.answer=object",
    "--config.policy.dtype=float32",
    "--config.policy.remat=none",
    "--config.train.grpo.max_tokens=0",
    "--config.evaluation.questions=4",
)


def test_evaluating_a_hugging_face_folder(trained, hub, run, tmp_path):
    where = ("--mode=eval", f"--checkpoint={hub}", f"--workdir={tmp_path}")
    done = run(*where, *AS_TRAINED, config=f"{CONFIG},model={hub}")
    assert done.code == 0, done.err
    other = ("--config.policy.max_pixels=6272", *where, *AS_TRAINED)
    refused = run(*other, config=f"{CONFIG},model={hub}")
    way = "--config.policy.max_pixels=3136"
    assert_one_message(refused, "another images.max_pixels (3136, here 6272)", way)
    found = rows(tmp_path / "grpo/eval/0/answers.jsonl")
    assert found == rows(trained[0] / f"grpo/eval/{STEPS}/answers.jsonl")
    half = ("--config.policy.param_dtype=bfloat16", f"--workdir={tmp_path}/half")
    done = run(*where[:2], *half, *AS_TRAINED, config=f"{CONFIG},model={hub}")
    assert done.code == 0, done.err


def test_parameters_in_half_precision_are_not_trained_in_silence(run, tmp_path):
    half = ("--config.policy.param_dtype=bfloat16", f"--workdir={tmp_path}")
    assert_one_message(run(*half), "bfloat16", "optim.half=master")


def test_an_exported_run_answers_here_and_in_transformers_as_it_did(
    trained, run, tmp_path
):
    where = (f"--checkpoint={trained[0]}", f"--workdir={tmp_path}")
    done = run("--mode=export", *SMALL, *where)
    assert done.code == 0, done.err
    folder, before = tmp_path / "policy", trained[0] / f"grpo/eval/{STEPS}"
    summary, *_ = json.loads((before / "tables.json").read_text())
    card = (folder / "README.md").read_text()
    assert f"| {' | '.join(summary['rows'][0])} |" in card
    assert f"`python run.py --config={CONFIG} --compilation_cache=..." in card
    done = run("--mode=eval", f"--checkpoint={folder}", f"--workdir={tmp_path}")
    assert done.code == 0, done.err
    answers = rows(before / "answers.jsonl")
    assert rows(tmp_path / "grpo/eval/0/answers.jsonl") == answers
    setup = setup_of(get_config("smoke").to_dict())
    scored = scoring(setup, "grpo", before={})
    _, records = next(iter(scored["eval_batches"]()))
    question = records[0].query + setup.encoding.style.suffix
    room = setup.answer_length
    text = answer_text(folder, [records[0].image], question, most=room)
    assert text == answers[0]["text"]
    assert_one_message(
        run("--mode=export", f"--workdir={tmp_path}"), "is there", "move or remove it"
    )


def test_a_runs_own_answers_give_its_own_rows(trained, run, tmp_path):
    before = trained[0] / f"grpo/eval/{STEPS}"
    path = tmp_path / "grpo.jsonl"
    shutil.copy(before / "answers.jsonl", path)
    place = f"--workdir={tmp_path}"
    beside = {"itself": str(before.parent)}
    given = f"--config.evaluation.beside={json.dumps(beside)}"
    done = run("--mode=eval", f"--answers={path}", given, place)
    assert done.code == 0, done.err
    found = tmp_path / "answers/grpo/eval/0"
    assert rows(found / "answers.jsonl") == rows(path)
    tables = [json.loads((x / "tables.json").read_text())[0] for x in (found, before)]
    ours, theirs = ({row[0]: row[1:] for row in table["rows"]} for table in tables)
    assert ours["grpo"] == theirs["grpo"] == ours["run: itself"]
    assert (tmp_path / "answers/grpo/report.html").exists()
    assert not list(tmp_path.glob("**/checkpoints"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert_one_message(
        run("--mode=eval", f"--answers={path}", place),
        *("1 of 16 questions have no answer", "evaluation.unanswered=wrong"),
    )
    wrong = "--config.evaluation.unanswered=wrong"
    done = run("--mode=eval", f"--answers={path}", wrong, place)
    assert done.code == 3 and "1 of 16 questions" in done.err


@pytest.mark.parametrize(
    ("arguments", "piece"),
    [
        (["--mode=train"], "--answers: expected --mode=eval of medloc, vrft_aug"),
        (["--mode=eval", "--checkpoint=w"], "--answers and --checkpoint: expected one"),
        (["--mode=eval"], "peer.jsonl: no such file"),
    ],
)
def test_answers_go_with_an_evaluation_alone(run, tmp_path, arguments, piece):
    given = ("--answers=peer.jsonl", f"--workdir={tmp_path}/run")
    assert_one_message(run(*arguments, *given), piece)


def test_a_users_own_boxes_and_a_python_reward(run, tmp_path):
    rng, lines = np.random.default_rng(0), []
    for n in range(6):
        pixels = rng.integers(0, 255, (60, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        row = {"image": f"{n}.png", "query": "Find it.", "box": [5, 8, 40, 50 + n]}
        lines.append(json.dumps(row | {"frame": "original", "label": f"spot {n % 2}"}))
    (tmp_path / "boxes.jsonl").write_text("\n".join(lines))
    (tmp_path / "mine.py").write_text(
        "def short(completions, **columns):\n"
        "    return [1 / (1 + len(text)) for text in completions]\n"
    )
    done = run(
        f"--workdir={tmp_path}/run",
        "--config.warm_start.steps=0",
        "--config.train.grpo.steps=1",
        config=f"{CONFIG},data={tmp_path},python_reward={tmp_path}/mine.py:short",
    )
    assert done.code == 0, done.err
    (row,) = rows(tmp_path / "run/grpo/metrics.jsonl")
    assert 0 < row["reward_short"] < 1
    (evaluated,) = rows(tmp_path / "run/grpo/eval.jsonl")
    assert evaluated["n"] == 2  # a fifth of six images, rounded up


def test_sets_of_boxes_are_trained_resumed_and_evaluated(run, tmp_path):
    config = f"{CONFIG},data=synthetic"
    given = ("--config.data.answers=set", f"--workdir={tmp_path}/run")
    given += ("--config.warm_start.steps=0", "--config.train.grpo.steps=2")
    done = run(*given, config=config)
    assert done.code == 0, done.err
    assert "sets of boxes" in done.out and "most common set" in done.out
    metrics = rows(tmp_path / "run/grpo/metrics.jsonl")
    assert "quality" in metrics[-1] and "iou" not in metrics[-1]
    again = run(*given, config=config)
    assert again.code == 0 and rows(tmp_path / "run/grpo/metrics.jsonl") == metrics
    one = run(
        "--config.data.answers=one", *given[1:], config=f"{CONFIG},data=synthetic"
    )
    assert_one_message(one, "answers")
    folder = tmp_path / "run/grpo/eval/2"
    answers = rows(folder / "answers.jsonl")
    assert {len(row["targets"]) for row in answers} > {0, 1}
    assert (tmp_path / "run/grpo/figures/overlays.png").exists()


LABELS = "configs/vrft_aug.py:smoke,policy=off"


def test_classes_are_trained_resumed_and_evaluated(run, tmp_path):
    workdir = tmp_path / "run"
    done = run(f"--workdir={workdir}", config=LABELS)
    assert done.code == 0, done.err
    table = (workdir / "grpo/eval/4/tables.txt").read_text()
    for name in ("grpo", "warm_start", "majority class", "linear probe"):
        assert f"\n{name} " in table
    metrics = rows(workdir / "grpo/metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    assert {"reward_grade", "reward_recitation_tied", "hit_rate"} <= set(metrics[0])
    page = (workdir / "grpo/report.html").read_text()
    assert "confusion matrix" in page and "data:image/png" in page
    again = run(f"--workdir={workdir}", config=LABELS)
    assert again.code == 0 and "compiling" not in again.err, again.err
    assert rows(workdir / "grpo/metrics.jsonl") == metrics
    where = ("--mode=eval", f"--checkpoint={workdir}", f"--workdir={tmp_path}/eval")
    done = run(*where, config=LABELS)
    assert done.code == 0, done.err
    found = rows(tmp_path / "eval/grpo/eval/4/answers.jsonl")
    assert found == rows(workdir / "grpo/eval/4/answers.jsonl")
    done = run(f"--workdir={workdir}", config=f"{LABELS},prompt=off")
    assert_one_message(done, "belongs to another run", "data.words.knowledge")
    done = run(*where, config=f"{LABELS},prompt=off")
    assert_one_message(done, "differ in their knowledge", "trained with")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chestmnist", "organmnist3d"])
def test_several_labels_and_volumes_go_from_a_file_to_a_report(run, tmp_path, name):
    path, workdir = tmp_path / f"{name}.npz", tmp_path / "run"
    if name == "chestmnist":
        write_chest(path)
    else:
        write_volumes(path, classes=11)
    config = f"configs/vrft_aug.py:data={path},smoke"
    done = run(f"--workdir={workdir}", "--config.data.slices.step=14", config=config)
    assert done.code == 0, done.err
    text = (workdir / "grpo/eval/4/tables.txt").read_text()
    titles = ("grpo: each class", "classes shown; a picture:", "\nmost common set ")
    if name == "organmnist3d":
        titles = ("one answer a volume, by the most votes", "confusion matrix")
    for title in titles:
        assert title in text
    where = ("--mode=eval", f"--checkpoint={workdir}", f"--workdir={tmp_path}/eval")
    done = run(*where, "--config.data.slices.step=14", config=config)
    assert done.code == 0, done.err
    found = rows(tmp_path / "eval/grpo/eval/4/answers.jsonl")
    assert found == rows(workdir / "grpo/eval/4/answers.jsonl")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")  # orbax: one host
def test_a_chain_killed_in_its_second_stage_equals_the_unbroken_one(run, tmp_path):
    """Boxes first, then classes, in one command; every stage's numbers are the same."""
    config = "configs/vrft_aug.py:smoke"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = run(f"--workdir={whole}", config=config)
    assert done.code == 0, done.err
    metrics = parts / "boxes_grpo/metrics.jsonl"

    def second_step():
        return metrics.exists() and metrics.read_text().count("\n") >= 2

    killed = run(f"--workdir={parts}", config=config, until=second_step)
    assert killed.code == -signal.SIGKILL, killed.err
    assert not (parts / "warm_start").exists()
    resumed = run(f"--workdir={parts}", config=config)
    assert resumed.code == 0, resumed.err
    left, right = final(whole, step=4), final(parts, step=4)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    for stage in ("boxes_warm_start", "boxes_grpo", "warm_start", "grpo"):
        for name in ("metrics.jsonl", "eval.jsonl"):
            assert rows(parts / stage / name) == rows(whole / stage / name)


@pytest.mark.parametrize(
    ("argument", "pieces"),
    [
        ("--config.data.source=mr_lung", ["'mr_lung'", "Expected one of ct_organ"]),
        ("--config.data.descriptions=shapes", ["shapes.json", "no description of"]),
        ("--config.train.grpo.grade=half", ["grade='half'", "one of auto, fuzzy"]),
        ("--config.prompt.answer=number", ["'number'", "letter", "grade"]),
    ],
    ids=lambda x: x.split(".")[-1] if isinstance(x, str) else "",
)
def test_mistakes_about_classes_get_one_message(run, tmp_path, argument, pieces):
    done = run(argument, f"--workdir={tmp_path}/run", config=LABELS)
    assert_one_message(done, *pieces)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argument", "piece"),
    [
        ("--config.train.grpo.group=8", "options.group: the checkpoint has 4, this r"),
        ("--config.seed=7", "seed: the checkpoint has 0, this run has 7"),
        ("--config.policy.width=64", "policy.width: the checkpoint has 32, this run"),
        ("--config.data.size=(70, 70)", "data.size: the checkpoint has [56, 56], th"),
    ],
    ids=["option", "seed", "architecture", "data"],
)
def test_a_changed_run_is_not_resumed(trained, run, argument, piece):
    done = run(*SMALL, argument, f"--workdir={trained[0]}")
    assert_one_message(done, "belongs to another run", "another workdir", piece)


@pytest.mark.parametrize(
    ("argument", "pieces"),
    [
        ("--config.trian.method=sft", ["trian", 'Did you mean "train"']),
        ("--config.train.grpo.gruop=8", ["gruop", 'Did you mean "group"']),
        ("--config.train.grpo.group=many", ["group", "many"]),
        ("--config.data.source=mr_all", ["'mr_all'", "mr_aal", "synthetic"]),
        ("--config.train.grpo.max_tokens=5", ["max_tokens=5 is too short"]),
        ("--config.train.grpo.schedule=cubic", ["'cubic'", "piecewise"]),
        ("--config.policy.path=/gone/Qwen", ["/gone/Qwen", "Hugging Face folder"]),
        ("--config.mesh.data=3", ["mesh", "3", "1 devices"]),
        ("--mode=eval", ["no checkpoint at", "/run"]),
        ("--config.data.size=112", ["--config.data.size=112", "2 whole numbers"]),
        ("--mode=evaluate", ["--mode=evaluate", "medloc has the modes train, eval"]),
        ("--mdoe=eval", ["mdoe", "mode"]),
        ("extra", ["unexpected arguments: extra"]),
    ],
    ids=lambda x: x.split(".")[-1].split("=")[0] if isinstance(x, str) else "",
)
def test_mistakes_get_one_message(run, tmp_path, argument, pieces):
    done = run(argument, f"--workdir={tmp_path}/run")
    assert_one_message(done, *pieces)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "pieces"),
    [
        ("", ["--config: expected FILE or FILE:VARIANTS", "configs/puq.py"]),
        ("configs/medlok.py", ["no such file: configs/medlok.py", "configs/medloc.py"]),
        ("configs/medloc.py:rewrd=fixed", ["'rewrd'", "did you mean 'reward'"]),
        ("configs/medloc.py:reward=iou", ["reward='iou'", "curriculum, fixed"]),
        ("configs/puq.py:acceleration=much", ["acceleration=much", "float"]),
    ],
)
def test_a_wrong_config_gets_one_line(run, config, pieces):
    done = run(config=config)
    assert_one_message(done, *pieces)
    assert len(done.err.splitlines()) == 1


def test_help_tells_modes_codes_and_variants(run):
    done = run("--help", config="")
    assert done.code == 0 and not done.err
    usage, _, flags = done.out.partition("Flags:")
    for text in (
        *(
            "python run.py --config=configs/medloc.py",
            "predict    medloc, vrft_aug, puq",
        ),
        *("3      finished with warnings", "configs/vrft_aug.py - VRFT-Aug"),
        *("    reward=curriculum | fixed | raw_iou | progress", "    contrast=t2 | t1"),
        *("    parts=all | none", "    task=mr_level"),
    ):
        assert text in usage
    assert "--checkpoint" in flags


@pytest.mark.parametrize(
    ("recorded", "pieces"),
    [
        ({}, ["medjax 0.1.0", "commit 48e6ee2c", "this is medjax"]),
        ({"git": None}, ["medjax 0.1.0", "no commit on record", "started 2026-01-02"]),
        ({"versions": None}, ["not on record", "grpo/manifest.json"]),
    ],
)
def test_a_refused_resume_names_the_version_that_ran(
    trained, run, tmp_path, recorded, pieces
):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    path = workdir / "grpo/manifest.json"
    starts = json.loads(path.read_text())
    older = {"versions": {"medjax": "0.1.0"}, "git": "48e6ee2c", "time": "2026-01-02"}
    starts[-1] |= older | recorded
    path.write_text(json.dumps(starts))
    changed = "--config.train.grpo.group=8"
    done = run(*SMALL, changed, f"--workdir={workdir}")
    assert_one_message(done, "belongs to another run", "options.group", *pieces)
    if not recorded:  # what is the same run goes on, whoever made it
        assert run(*SMALL, f"--workdir={workdir}").code == 0


def test_checkpoints_of_another_architecture_are_refused(trained, hub, run, tmp_path):
    wider = ("--config.policy.width=64", "--config.policy.head_dim=16")
    section = "--config.policy.mrope_section=(4, 2, 2)"
    where = ("--mode=eval", f"--workdir={tmp_path}/eval", *wider, section)
    found = "text.norm.scale: found float32[32], expected float32[64]"
    for path in (trained[0], hub):
        done = run(*where, f"--checkpoint={path}")
        assert_one_message(done, str(path), "of another architecture", found)
    done = run(*where, "--config.policy.tied=False", f"--checkpoint={hub}")
    assert_one_message(done, str(hub), "text/head", "model=FOLDER")
    (tmp_path / "empty").mkdir()
    done = run(*where, f"--checkpoint={tmp_path}/empty")
    assert_one_message(done, f"{tmp_path}/empty", "config.json")


def test_a_model_without_the_special_tokens_is_refused(hub, run, tmp_path):
    broken = shutil.copytree(hub, tmp_path / "plain")
    for file in broken.glob("*token*"):
        text = file.read_text().replace("<|image_pad|>", "<|image|>")
        file.write_text(text)
    done = run(f"--workdir={tmp_path}/run", config=f"{CONFIG},model={broken}")
    assert_one_message(done, str(broken), "none for <|image_pad|>")


def test_a_bad_line_of_data_is_named(run, tmp_path):
    Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    line = {"image": "a.png", "query": "Find it.", "box": [5, 8, 70, 50]}
    (tmp_path / "boxes.jsonl").write_text(json.dumps(line | {"frame": "original"}))
    done = run(f"--workdir={tmp_path}/run", config=f"{CONFIG},data={tmp_path}")
    assert_one_message(done, "boxes.jsonl, line 1", "leaves the image")


def test_no_network_for_a_pack_names_the_way_out(run, tmp_path):
    away = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    away |= {"MEDJAX_CACHE": str(tmp_path / "packs"), "PIP_NO_CACHE_DIR": "1"}
    done = run(f"--workdir={tmp_path}/run", "--config.data.source=mr_aal", **away)
    assert_one_message(done, "data=synthetic")


def test_a_full_disk_keeps_what_was_saved(trained, run, tmp_path):
    """A limit on the size of files stands in for the disk."""
    shutil.copytree(trained[0] / "warm_start", tmp_path / "run/warm_start")
    before = final_bytes(tmp_path / "run/warm_start")
    done = run(*SMALL, f"--workdir={tmp_path}/run", largest_file=60_000)
    assert_one_message(done, "could not be written", "run/grpo/checkpoints")
    assert final_bytes(tmp_path / "run/warm_start") == before


def final_bytes(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_error_in_a_users_reward_shows_the_users_lines(run, tmp_path):
    file = tmp_path / "mine.py"
    text = "def mine(completions, **_):\n    return [{}[x] for x in completions]\n"
    file.write_text(text)
    config = f"{CONFIG},python_reward={file}:mine"
    done = run(f"--workdir={tmp_path}/run", *COLD, config=config)
    assert done.code == 1 and "Error: reward 'mine' failed at step 0: KeyError" in (
        done.err
    )
    assert f'File "{file}", line 2, in mine' in done.err
    assert "return [{}[x] for x in completions]" in done.err
    assert "python_rewards.py" not in done.err  # none of the library's lines


COLD = ("--config.warm_start.steps=0", "--config.train.grpo.steps=6")


@pytest.mark.slow
def test_a_run_that_learns_nothing_ends_and_says_so(run, tmp_path):
    """The fresh policy's completions cannot be read: all rewards are 0."""
    idle = (*COLD, f"--workdir={tmp_path}/run", "--config.train.grpo.patience=2")
    for _ in range(2):  # the second only finds that it has ended
        done = run(*idle)
        assert done.code == 3, done.err
        last = done.err.splitlines()[-1]
        assert "warning: grpo: stopped after step 2: in the last 2 steps" in last
        assert "reward=curriculum at tau 0.30" in last
        assert "100% could not be read: try a longer warm start" in last
    assert [row["step"] for row in rows(tmp_path / "run/grpo/eval.jsonl")] == [2]
    assert (tmp_path / "run/grpo/report.html").exists()
    done = run(*idle, "--config.train.grpo.patience=None")
    assert done.code == 0, done.err
    assert rows(tmp_path / "run/grpo/eval.jsonl")[-1]["step"] == 6


@pytest.mark.slow
def test_skipped_steps_make_a_run_doubtful(run, tmp_path):
    """Infinite updates are skipped; huge ones leave a policy that answers nothing."""
    skipping = (
        "--config.checkpoint.on_nonfinite=skip",
        "--config.warm_start.steps=0",
        "--config.train.sft.optim.muon_lr=None",
    )
    config = f"{CONFIG},method=sft"
    where = (f"--workdir={tmp_path}/run", "--config.train.sft.optim.lr=1e39")
    for _ in range(2):  # the second only finds that all is done
        done = run(*skipping, *where, config=config)
        assert done.code == 3, done.err
        last = done.err.splitlines()[-1]
        assert "warning: sft: " in last and "of 4 steps were not finite" in last
    where = (f"--workdir={tmp_path}/huge", "--config.train.sft.optim.lr=1e30")
    done = run(*skipping, *where, config=config)
    assert_one_message(done, "log-probabilities are NaN or infinite for 16 of 16")


@pytest.mark.slow
def test_a_step_that_is_not_finite_stops_the_run(run, tmp_path):
    done = run(
        f"--workdir={tmp_path}/run",
        "--config.warm_start.optim.lr=1e30",
        "--config.warm_start.optim.muon_lr=1e30",
    )
    assert_one_message(done, "is not finite", "Nothing of it was saved")


@pytest.mark.parametrize(
    ("config", "arguments", "pieces"),
    [
        ("configs/puq.py:smoke", (), ("predict", "--input")),
        (
            CONFIG,
            ("--input=scan.npz",),
            ("predict", "expected --ask, a question"),
        ),
        ("configs/puq.py:smoke", ("--input=nowhere.h5",), ("nowhere.h5", "no such")),
    ],
)
def test_predictions_without_a_scan_get_one_message(
    run, tmp_path, config, arguments, pieces
):
    done = run("--mode=predict", f"--workdir={tmp_path}", *arguments, config=config)
    assert_one_message(done, *pieces)


def save_disc(path, *, empty):
    """Fully sampled k-space of a disc with T2 80 ms; slices after it are 0."""
    times = np.array([0.01, 0.04, 0.08, 0.12])
    rng = np.random.default_rng(0)
    smooth = np.hypot(*np.mgrid[-1:1:24j, -1:1:24j]) < 0.8
    images = smooth * np.exp(-times / 0.08)[:, None, None]
    coils = 1 + 0.5 * rng.normal(size=(3, 1, 1)) * np.mgrid[-1:1:24j, -1:1:24j][0]
    kspace = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(images[:, None] * coils, axes=(-2, -1))),
        axes=(-2, -1),
    ).astype(np.complex64)
    slices = [kspace, *[np.zeros_like(kspace)] * empty]
    np.savez(path, kspace=np.stack(slices) if empty else kspace, te=times)


@pytest.mark.parametrize("empty", [0, 1])
def test_maps_of_a_scan_from_the_command_line(run, tmp_path, empty):
    save_disc(tmp_path / "disc.npz", empty=empty)
    done = run(
        "--mode=predict",
        f"--input={tmp_path}/disc.npz",
        "--config.predict.method=zero-filled",  # nothing is missing
        f"--workdir={tmp_path}",
        config="configs/puq.py:smoke",
    )
    assert done.code == (3 if empty else 0), done.err
    assert "80.0 ms" in done.out and "failed: 0" in done.out
    assert (tmp_path / "predict/disc/T2map.nii.gz").exists()
    warned = "disc.npz: slices without signal: 1;" in done.err.splitlines()[-1]
    assert warned == bool(empty)


def test_a_scan_checked_from_the_command_line(run, tmp_path):
    save_disc(tmp_path / "disc.npz", empty=0)
    where = (f"--input={tmp_path}/disc.npz", f"--workdir={tmp_path}/work")
    done = run("--mode=check", *where, config="configs/puq.py:smoke")
    assert done.code == 0, done.err
    assert "3 coils" in done.out and "4 TE, 10 to 120 ms" in done.out
    done = run(
        "--mode=check", *where, "--config.predict.skip=3", config="configs/puq.py:smoke"
    )
    assert_one_message(done, "predict.skip 3", "expected 0, or up to 2")
    assert not (tmp_path / "work").exists()


def test_data_checked_from_the_command_line(run, tmp_path):
    boxes = save_scenes(tmp_path / "data", 12)
    path = write_boxes(tmp_path / "data", box_lines(boxes))
    config, where = f"{CONFIG},data={path}", f"--workdir={tmp_path}/work"
    cache = {"MEDJAX_CACHE": str(tmp_path / "cache")}
    done = run("--mode=check", where, config=config, **cache)
    assert done.code == 0, done.err
    assert "boxes.jsonl: the check is in" in done.out
    assert (tmp_path / "work" / "check.html").exists()
    lines = box_lines(boxes)
    lines[4]["box"] = [5, 5, 500, 40]
    write_boxes(tmp_path / "data", lines)
    done = run("--mode=check", where, config=config, **cache)
    assert done.code == 1 and "Traceback" not in done.err
    assert "boxes.jsonl, line 5: box" in done.err
    drop = "--config.data.on_bad=drop"
    done = run("--mode=check", where, drop, config=config, **cache)
    assert done.code == 3
    assert "warning: lines that cannot be used: 1" in done.err

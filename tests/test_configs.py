"""Every variant of every config builds, and what is misspelt is refused by name."""

import importlib
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import command_line, common
from configs.options import Maybe, Numbers, Words

REPO = pathlib.Path(__file__).resolve().parents[1]
NAMES = list(command_line.variants())


def get_config(name, arg=""):
    return importlib.import_module(f"configs.{name}").get_config(arg)


def run(*arguments, timeout=300):
    # Another environment than the suite's: as a user starts it, on one device.
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "run.py", *map(str, arguments)],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_arguments_are_typed():
    known = {"steps": 10, "rate": 0.1, "reward": "raw", "smoke": False}
    assert common.parse_arg("", **known).to_dict() == known
    found = common.parse_arg("steps=3,rate=1,reward=a=b,smoke", **known)
    assert found.to_dict() == {"steps": 3, "rate": 1.0, "reward": "a=b", "smoke": True}
    assert not common.parse_arg("smoke=false", **known).smoke


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("stesp=3", "unknown argument 'stesp'.*did you mean 'steps'.*steps"),
        ("xyz", "unknown argument 'xyz'.*steps, smoke"),
        ("steps=many", "steps=many: expected a int"),
        ("steps", "needs a value: steps="),
        ("smoke=perhaps", "smoke=perhaps: expected true or false"),
    ],
)
def test_bad_arguments_are_named(arg, message):
    with pytest.raises(ValueError, match=message):
        common.parse_arg(arg, steps=10, smoke=False)


@pytest.mark.parametrize("name", NAMES)
def test_default_config(name):
    config = get_config(name).lock()
    assert {"system", "seed", "mesh", "rules", "checkpoint"} <= set(config)
    assert set(config.mesh) == {"data", "fsdp", "model"}
    for logical, axes in config.rules.items():
        assert set(axes) <= set(config.mesh), logical
    with pytest.raises(AttributeError, match="seed"):
        config.sead = 1
    json.dumps(config.to_dict())  # the manifest holds all of it


def parse(name, *arguments):
    """A config as the flags of a command line make it."""
    values = flags.FlagValues()
    argv = ["run.py", f"--config={REPO}/configs/{name}.py", *arguments]
    where = {"flag_values": values, "sys_argv": argv}
    holder = config_flags.DEFINE_config_file("config", None, "", **where)
    values(argv)
    return holder.value


def parsed_option(name, option, text):
    value = parse(name, f"--config.{option}={text}").to_dict()
    for key in option.split("."):
        value = value[key]
    return value


def is_table(value):
    """A dict that is set as one: it is empty, or its keys are no words."""
    return isinstance(value, ConfigDict) and not all(
        map(str.isidentifier, value or " ")
    )


def options(config, prefix=""):
    """(dotted name, type or form) of everything that can be set."""
    for key in config:
        value, name = config[key], f"{prefix}{key}"
        if isinstance(value, ConfigDict) and not is_table(value):
            yield from options(value, f"{name}.")
        else:
            yield name, config.get_type(key)


WRITTEN = {  # by type or form: what may be written, and what it means
    int: {"3": 3, "-1": -1},
    float: {"0.25": 0.25, "1e-3": 1e-3, "2": 2.0},
    bool: {"True": True, "false": False},
    str: {"word": "word", "two words": "two words", "": ""},
    ConfigDict: {"{}": {}, '{"a b": {"c": 1}}': {"a b": {"c": 1}}},
    Words(): {
        "aal": "aal",
        "data,fsdp": ("data", "fsdp"),
        "left insula, right insula": ("left insula", "right insula"),
        "('data', 'fsdp')": ("data", "fsdp"),
        "()": (),
        "": (),
    },
    Words(listed=True): {"sex": ("sex",), "sex,scanner": ("sex", "scanner"), "()": ()},
    Maybe(int): {"None": None, "50": 50},
    Maybe(float): {"None": None, "0.5": 0.5, "1": 1.0},
    Maybe(bool): {"None": None, "True": True, "false": False},
    Numbers(int): {"3": (3,), "1,3": (1, 3), "(1, 3, 5)": (1, 3, 5), "()": ()},
    Numbers(int, (2,)): {"84,56": (84, 56), "(84, 56)": (84, 56)},
    Numbers(int, (3,)): {"2,1,1": (2, 1, 1), "(2, 1, 1)": (2, 1, 1)},
    Numbers(float): {"4": (4.0,), "4,6.5": (4.0, 6.5), "(1, .5,)": (1, 0.5), "()": ()},
    Numbers(float, (2,)): {"0.5,2": (0.5, 2.0), "inf,inf": (math.inf, math.inf)},
    Numbers(float, (3,)): {"0.5,0.6,1": (0.5, 0.6, 1.0)},
    Numbers(float, (0, 2)): {"1.1,1.7": (1.1, 1.7), "()": ()},
    Numbers(float, (0, 3)): {"1,1,2.5": (1.0, 1.0, 2.5), "()": ()},
}
WRONG = {  # what no option of a type or form may be
    int: ["many", "0.5"],
    float: ["many", "1,2"],
    bool: ["perhaps", "2"],
    str: [],
    ConfigDict: ["many", "{"],
    Words(): [],
    Words(listed=True): [],
    Maybe(int): ["many", "0.5", "1,2"],
    Maybe(float): ["many", "1,2"],
    Maybe(bool): ["perhaps", "2"],
    Numbers(int): ["many", "1,many", "1;2", "0.5", "None"],
    Numbers(int, (2,)): ["many", "1", "1,2,3", "0.5,1", "()"],
    Numbers(int, (3,)): ["many", "1,2", "()"],
    Numbers(float): ["many", "1,many", "None"],
    Numbers(float, (2,)): ["many", "1", "1,2,3", "()"],
    Numbers(float, (3,)): ["many", "1,2", "()"],
    Numbers(float, (0, 2)): ["many", "1", "1,2,3", "None"],
    Numbers(float, (0, 3)): ["many", "1", "1,2"],
}
# ml_collections reads a config by a deprecated method
reads_configs = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@reads_configs
@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_set_or_refused_on_the_command_line(name):
    # what is "usual" is what nobody asked for, see `get_usual`
    known = [x for x in options(get_config(name)) if ".usual." not in x[0]]
    assert len(known) > 80
    for option, form in known:
        for text, expected in WRITTEN[form].items():
            value = parsed_option(name, option, text)
            assert value == expected and type(value) is type(expected), (option, text)
        for text in WRONG[form]:
            with pytest.raises(flags.Error, match=rf"--config\.{option}="):
                parse(name, f"--config.{option}={text}")


@reads_configs
@pytest.mark.parametrize(
    ("name", "option", "text", "expected"),
    [
        ("medloc", "data.structures", "aal", "aal"),
        ("medloc", "data.structures", "left insula", "left insula"),
        ("medloc", "train.grpo.schedule_changes", '{"window": 10}', {"window": 10}),
        ("medloc", "train.grpo.python_rewards", '{"s": "a.py:s"}', {"s": "a.py:s"}),
        ("medloc", "train.grpo.optim.clip_norm", "None", None),
        ("medloc", "train.grpo.optim.muon_lr", "None", None),
        ("medloc", "rules.kv_heads", "()", ()),
        ("vrft_aug", "train.grpo.grade_table", "(1, 0.5, 0.1)", (1, 0.5, 0.1)),
        ("vrft_aug", "data.ordinal", "True", True),
        ("vrft_aug", "localisation.data.structures", "all", "all"),
        ("puq", "data.snr", "inf,inf", (math.inf, math.inf)),
        ("puq", "data.accelerations", "4,6", (4.0, 6.0)),
        ("puq", "fit.optim.clip_norm", "1.0", 1.0),
        ("puq", "predict.voxel_mm", "1,1,5", (1.0, 1.0, 5.0)),
        (
            "puq",
            "evaluation.methods",
            '{"CG-SENSE": {"kind": "cg_sense", "damping": 0.01}}',
            {"CG-SENSE": {"kind": "cg_sense", "damping": 0.01}},
        ),
    ],
)
def test_what_the_configs_document_can_be_set(name, option, text, expected):
    assert parsed_option(name, option, text) == expected


@pytest.mark.parametrize(
    "arg",
    [
        *(f"reward={r}" for r in ("curriculum", "fixed", "raw_iou", "progress")),
        *(f"schedule={s}" for s in ("piecewise", "linear", "cosine")),
        *(f"method={m}" for m in ("grpo", "sft")),
        *(f"preset={p}" for p in ("demo", "paper", "vlm_r1")),
        *(f"data={x}" for x in ("synthetic", "mr_aal", "ct_new,method=sft")),
        *(f"model={x}" for x in ("fresh", "tiny,test=val", "tiny,smoke")),
        "data=/some/boxes.jsonl,model=/some/folder,preset=paper",
        "smoke",
        "smoke,method=sft,reward=fixed",
    ],
)
def test_medloc_variants(arg):
    get_config("medloc", arg).lock()


@pytest.mark.parametrize("arg", ["reward=iou", "method=ppo", "preset=papre"])
def test_medloc_names_the_choices(arg):
    name, value = arg.split("=")
    with pytest.raises(ValueError, match=f"{name}.*{value}.*expected one of"):
        get_config("medloc", arg)


def test_medloc_presets_differ_where_the_papers_do():
    paper, vlm = (
        get_config("medloc", f"preset={name}").train.grpo
        for name in ("paper", "vlm_r1")
    )
    assert (paper.loss.beta, paper.sampling.temperature) == (0.4, 0.9)
    assert (vlm.loss.beta, vlm.sampling.temperature) == (0.04, 1.0)
    assert paper.optim.lr == vlm.optim.lr == 1e-6


def test_medloc_starts_from_the_shipped_policy_on_new_domains():
    new = get_config("medloc", "data=ct_new")
    assert new.policy.path == "tiny" and new.data.ramps and new.data.labelled
    assert new.warm_start.steps < 100 and new.data.field == 300.0
    assert new.train.grpo.schedule_changes.check_margin is False
    assert (
        get_config("medloc").to_json() == get_config("medloc", "data=mr_new").to_json()
    )
    assert get_config("medloc", "model=fresh").data.source == "mr_aal"
    assert get_config("medloc", "model=FOLDER").data.source == "mr_aal"
    paper = get_config("medloc", "data=mr_new,preset=paper").train.grpo
    assert not paper.schedule_changes and paper.loss.beta == 0.4
    for arg in ("data=mr_aal", "data=mr_new,model=fresh", "data=boxes.jsonl", "smoke"):
        fresh = get_config("medloc", arg)
        assert fresh.policy.path == "" and fresh.warm_start.steps
        assert not fresh.train.grpo.schedule_changes
    small = get_config("medloc", "smoke,model=tiny")
    assert small.policy.path == "tiny" and small.data.ramps
    assert small.data.source == "synthetic"


@pytest.mark.parametrize(
    "arg",
    [
        *(f"contrast={c}" for c in ("t2", "t1")),
        *(f"form={f}" for f in ("subspace", "puq", "modl")),
        *(f"preset={p}" for p in ("demo", "paper")),
        "data=synthetic,acceleration=4",
        "smoke,contrast=t1,form=puq",
    ],
)
def test_puq_variants(arg):
    get_config("puq", arg).lock()


@pytest.mark.parametrize("arg", ["contrast=t3", "form=varnet", "preset=x", "data=mine"])
def test_puq_names_the_choices(arg):
    name, value = arg.split("=")
    with pytest.raises(ValueError, match=f"{name}.*{value}.*expected one of"):
        get_config("puq", arg)


def test_puq_s_paper_preset_is_the_authors_code():
    found = get_config("puq", "preset=paper")
    network = found.network
    assert (network.width, network.layers, network.stages) == (128, 4, 5)
    assert (network.consistency, network.dropout, network.shared) == (
        "hard",
        0.3,
        False,
    )
    assert (found.train.batch, found.train.optim.lr) == (32, 1e-2)
    assert (found.fit.passes, found.fit.width, found.fit.layers) == (100, 64, 5)


@pytest.mark.parametrize(
    "arg",
    [
        *(f"{part}={x}" for part in ("prompt", "policy") for x in ("on", "off")),
        *(f"recite={x}" for x in ("negative", "none", "positive")),
        *(f"parts={x},grade=exact" for x in ("all", "none")),
        *(f"task={x}" for x in ("ct_organ", "mr_structure_plane", "ct_lung")),
        *(f"mfrs={x}" for x in ("tenth", "gaussian")),
        "data=/some/retinamnist.npz,model=/some/folder,preset=vlm_r1",
        "method=sft,parts=none",
        "test=val",
        "smoke,task=shapes",
        "think=off,recite=none",
        *(f"model={x}" for x in ("tiny", "fresh")),
        "model=tiny,preset=paper,method=sft",
        "smoke,model=tiny",
    ],
)
def test_vrft_aug_variants(arg):
    get_config("vrft_aug", arg).lock()


@pytest.mark.parametrize(
    "arg",
    [
        "task=mr_lung",
        "recite=yes",
        "think=some",
        "grade=half",
        "mfrs=half",
        "parts=some",
        "test=all",
    ],
)
def test_vrft_aug_names_the_choices(arg):
    name, value = arg.split("=")
    with pytest.raises(ValueError, match=f"{name}.*{value}.*expected one of"):
        get_config("vrft_aug", arg)


def test_vrft_aug_parts_are_switches():
    def parts(arg):
        config = get_config("vrft_aug", arg)
        weights = config.train.grpo.reward_weights
        first = config.localisation
        knows = config.data.prompt_knowledge
        return knows, first.use, config.train.grpo.grade, weights.recitation

    assert parts("model=fresh") == (True, True, "auto", -0.5)
    # the shipped policy has learnt to box, and is paid for reciting
    assert parts("") == (True, False, "auto", 0.5)
    assert parts("preset=paper") == (True, False, "auto", -0.5)
    assert parts("recite=negative")[3] == -0.5
    assert parts("parts=none") == (False, False, "exact", 0.0)
    assert parts("parts=none,prompt=on")[0]
    assert parts("parts=none,grade=fuzzy")[2] == "fuzzy"
    # a user's grades are found where the data is read
    assert parts("data=retinamnist_224.npz,model=Qwen") == (True, False, "auto", -0.5)
    for task, source in (("ct_organ", "ct_organs"), ("mr_plane", "mr_aal")):
        first = get_config("vrft_aug", f"task={task},model=fresh").localisation
        assert first.use and first.words and first.data.source == source
    assert not get_config("vrft_aug", "data=x.npz").localisation.words
    assert parts("think=off,model=fresh") == (True, True, "auto", 0.0)
    off = get_config("vrft_aug", "think=off")
    assert not off.prompt.think and not off.localisation.prompt.think
    assert off.train.grpo.min_words == 0
    with pytest.raises(ValueError, match="recite=negative and think=off: without a re"):
        parts("think=off,recite=negative")
    with pytest.raises(ValueError, match="mfrs=tenth and grade=exact"):
        parts("grade=exact,mfrs=tenth")
    tuned = get_config("vrft_aug", "test=val")
    assert tuned.data.test == tuned.localisation.data.test == "val"
    with pytest.raises(ValueError, match="task='mr_level' and data='x.npz'"):
        get_config("vrft_aug", "task=mr_level,data=x.npz")


def test_every_logical_axis_of_the_policy_has_a_rule():
    import jax
    from jax.sharding import PartitionSpec

    from medjax.models.qwen25vl.parameters import param_axes
    from tests.tiny import tiny_config

    is_axes = lambda leaf: isinstance(leaf, PartitionSpec)  # noqa: E731
    leaves = jax.tree.leaves(param_axes(tiny_config()), is_leaf=is_axes)
    used = {axis for leaf in leaves for axis in leaf if axis is not None}
    assert used <= set(common.get_rules())


def test_mistakes_of_the_command_line():
    wrong = run("--config=configs/medloc.py", "--config.sead=1")
    assert wrong.returncode == 1
    assert "sead" in wrong.stderr and "seed" in wrong.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["medloc", "vrft_aug"])
def test_smoke_trains_resumes_and_evaluates(tmp_path, name):
    command = (f"--config=configs/{name}.py:smoke", f"--workdir={tmp_path}")
    first = run(*command, timeout=900)
    assert first.returncode == 0, first.stderr
    for stage in ("warm_start", "grpo"):
        folder = tmp_path / stage
        for name in ("metrics.jsonl", "eval.jsonl", "manifest.json"):
            assert (folder / name).stat().st_size, name
    before = (tmp_path / "grpo" / "metrics.jsonl").read_text()
    again = run(*command, timeout=900)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "grpo" / "metrics.jsonl").read_text() == before
    score = run(*command, "--mode=eval", f"--checkpoint={tmp_path}", timeout=900)
    assert score.returncode == 0, score.stderr
    other = run(*command, "--config.seed=7", timeout=900)
    assert other.returncode != 0 and "belongs to another run" in other.stderr
    assert "seed: the checkpoint has 0, this run has 7" in other.stderr


@pytest.mark.slow
def test_pretraining_goes_on_is_exported_and_starts_other_runs(tmp_path):
    """The last command is the one that the policy's card gives."""
    command = ("--config=configs/pretrain.py:smoke", f"--workdir={tmp_path}/run")
    for extra in ((), ("--mode=export",)):
        done = run(*command, *extra, timeout=900)
        assert done.returncode == 0, done.stderr
    folder = tmp_path / "run/policy"
    card = (folder / "README.md").read_text()
    assert "| steps | 4 |" in card and "| shapes, the policy | 16 |" in card
    assert (folder / "model.safetensors").stat().st_size < 8_000_000
    given = card[card.index("--config=configs/medloc.py") : card.rindex("```")]
    given = given.replace("\\\n", " ").replace("model=FOLDER", f"smoke,model={folder}")
    eval_of = (f"--mode=eval --checkpoint={folder} --workdir={tmp_path}/eval").split()
    done = run(*given.replace("''", "").split(), *eval_of, timeout=900)
    assert done.returncode == 0, done.stderr
    more = run(*command, "--config.train.steps=6", timeout=900)
    assert more.returncode != 0 and "belongs to another run" in more.stderr


@pytest.mark.parametrize("wish", ["task=nuclei_size", "data=pictures.npz"])
def test_localisation_never_takes_boxes_of_another_volume_unasked(wish):
    from configs import vrft_aug

    with pytest.raises(ValueError, match=r"policy=on: .* boxes=SOURCE"):
        vrft_aug.get_config(f"{wish},policy=on")
    config = vrft_aug.get_config(f"{wish},policy=on,boxes=synthetic")
    assert config.localisation.data.source == "synthetic"
    assert not vrft_aug.get_config(wish).localisation.use


@pytest.mark.parametrize("task", ["ct_lung", "mr_level", "shapes"])
def test_a_task_localises_in_its_own_volume(task):
    from configs import vrft_aug

    source = vrft_aug.TASKS[task].boxes
    config = vrft_aug.get_config(f"task={task},model=fresh")
    assert config.localisation.data.source == source


SLICES = (
    *("ct_lung", "ct_organ", "mr_level", "mr_ventricle"),
    *("mr_plane", "mr_structure", "mr_structure_plane"),
)


@pytest.mark.parametrize("task", SLICES)
def test_tasks_about_slices_of_volumes_start_from_the_shipped_policy(task):
    config = get_config("vrft_aug", f"task={task}")
    assert config.policy.path == "tiny" and config.policy.tied is None
    assert config.data.size == (112, 112) and config.data.ramps  # as it was trained
    assert config.prompt.system == "" and not config.prompt.instruct
    first = config.localisation
    assert not first.use  # it has learnt to box before
    asked = get_config("vrft_aug", f"task={task},policy=on").localisation
    assert asked.use and asked.data.source == f"{task[:2]}_new"
    assert asked.data.ramps and asked.data.labelled > 0
    assert asked.data.size == (112, 112)
    fresh = get_config("vrft_aug", f"task={task},model=fresh")
    assert fresh.policy.path == "" and fresh.data.size == (56, 56)
    assert fresh.data.labelled == 0 and fresh.localisation.use


@pytest.mark.parametrize(
    "arg", ["task=nuclei_size", "task=shapes", "task=shape_size", "smoke", "data=x.npz"]
)
def test_what_the_shipped_policy_never_saw_starts_from_random_weights(arg):
    config = get_config("vrft_aug", arg)
    assert config.policy.path == "" and config.data.size == (56, 56)
    assert config.data.labelled == 0 and not config.data.ramps
    # unless it is asked for
    tiny = get_config("vrft_aug", f"{arg},model=tiny")
    assert tiny.policy.path == "tiny" and tiny.data.ramps


def test_a_released_policy_keeps_its_numbers():
    config = get_config("vrft_aug", "model=/some/folder")
    assert config.policy.dtype == "bfloat16" and config.data.size == (224, 224)
    assert config.train.grpo.loss.beta == 0.4 and config.warm_start.steps == 0
    assert config.data.labelled == 0 and config.prompt.instruct
    assert not config.data.ramps and config.data.reason_words == 40


def test_the_paper_s_preset_keeps_its_numbers_from_the_shipped_policy():
    paper, released = (
        get_config("vrft_aug", arg).train.grpo
        for arg in ("preset=paper", "model=/some/folder")
    )
    for name in ("loss", "sampling", "advantages", "optim", "reward_weights"):
        assert paper[name] == released[name], name
    assert paper.repeat_ngram == 0 and paper.recitation_ramp.steps == 0
    assert paper.revisit.visits == 0
    demo = get_config("vrft_aug").train.grpo
    assert demo.repeat_ngram == 2
    # it asks something of a reasoning, and without one there is none
    assert get_config("vrft_aug", "think=off").train.grpo.repeat_ngram == 0


@pytest.mark.parametrize("task", SLICES)
def test_sft_beside_the_shipped_policy_s_rewards_has_as_many_updates(task):
    config = get_config("vrft_aug", f"task={task}")
    rival = get_config("vrft_aug", f"task={task},method=sft")
    assert rival.train.sft.steps == config.train.grpo.steps > 0
    assert rival.train.sft.batch == config.train.grpo.batch
    assert rival.data.to_dict() == config.data.to_dict()  # as many labels
    assert rival.warm_start.to_dict() == config.warm_start.to_dict()


def test_a_smoke_run_keeps_boxes_that_are_named():
    from configs import vrft_aug

    config = vrft_aug.get_config("smoke,data=labels.csv,boxes=mine,policy=on")
    assert config.localisation.data.source == "mine"
    assert config.localisation.data.structures == "all"
    config = vrft_aug.get_config("smoke,task=ct_organ,policy=on")
    assert config.localisation.data.source == "synthetic"


def test_ctrl_c_ends_with_a_line_and_its_code(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.refuse_error(KeyboardInterrupt(), show_cause=False)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "\nctrl-C: stopped before it was done\n"

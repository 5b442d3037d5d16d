"""VRFT-Aug: a policy learns to name classes and grades, with knowledge in four places.

    python run.py --config=configs/vrft_aug.py

On two CPU cores, in about five minutes: fetches a labelled chest CT (35 MB), and takes
the shipped policy, which was taught to box organs and never asked for a grade, to grade
how much lung a slice shows: from 50 labelled slices a short supervised warm start on
noisy grades, which teaches the answer's form, then GRPO with the parts of VRFT-Aug.
Evaluates on slices held out; writes tables, figures and `report.html` into the workdir.
The same command goes on where a stopped run ended.

Variants, after a colon and joined by commas. The parts, each alone or with others:

    prompt=on | off                       descriptions of the classes in the question
    policy=on | off                       localisation first, in the task's own volume;
                                          off where a pretrained policy has learnt it
    recite=negative | none | positive     weight of reciting the descriptions; positive
                                          for the shipped policy, else negative
    grade=auto | fuzzy | exact | both     near grades earn something: where the classes
                                          are grades, always, never; beside exact ones
    parts=all | none                      what the four are where they are not named

and the rest:

    task=mr_level | mr_ventricle | ct_lung | nuclei_size  graded (ordinal)
       | ct_organ | mr_structure | mr_plane | mr_structure_plane        classes
       | shapes | shape_size                              drawn, without network
    data=PATH               instead of a task: MedMNIST .npz (chestmnist and volumes
                            too), or a folder with a CSV; see docs/labels.md for
                            pictures with several classes or none
    boxes=SOURCE            what policy=on localises in, for a task without a volume and
                            for data=PATH: a `data` of configs/medloc.py
    mfrs=sixteenth | tenth | power | gaussian | quartic   what a near grade earns
    method=grpo | sft                                     sft: supervised, equal steps
    test=test | val         val: pictures to choose settings by, none of the test's
    preset=demo | paper | vlm_r1    beta, temperature, learning rate; paper with a model
    think=on | off                  off: the answer alone
    python_reward=FILE.py:NAME      one of yours beside the others
    model=tiny | fresh | PATH       the shipped policy, random weights or a Hugging Face
                                    folder of Qwen2.5-VL; tiny for mr_* and ct_*
    mesh=auto                       one that fits several devices
    seed=0
    smoke                           seconds, on drawn shapes unless data=PATH

    python run.py --config=configs/vrft_aug.py:parts=none,grade=fuzzy,seed=1
    python run.py --config=configs/vrft_aug.py:data=retinamnist_224.npz,model=Qwen
    python run.py --config=configs/vrft_aug.py:data=chestmnist.npz,smoke

Every option below can be set on its own, see `configs/medloc.py` for the forms:

    --config.train.grpo.reward_weights.format=0 --config.train.grpo.grade_table=1,0.5
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from configs import common, medloc
from configs.options import Maybe, Numbers, Words, option


class Task(NamedTuple):
    """How a built-in task's pictures are cut, and where policy=on finds boxes."""

    field: float  # mm, of nuclei pixels; 0: whole pictures
    margin: float = 0.0  # of a crop, times the structure's longer side; 0: whole slices
    boxes: str = ""  # a source of boxes in the same volume; empty: there is none
    labelled: int = 0  # pictures that the shipped policy is given; 0: all


TASKS = {
    "mr_ventricle": Task(190.0, boxes="mr_aal", labelled=50),
    "mr_level": Task(190.0, boxes="mr_aal"),
    "mr_plane": Task(190.0, boxes="mr_aal", labelled=50),
    "ct_lung": Task(380.0, boxes="ct_organs", labelled=50),
    "nuclei_size": Task(48.0),
    "ct_organ": Task(80.0, 1.6, "ct_organs", labelled=200),
    "mr_structure": Task(60.0, 1.8, "mr_aal", labelled=200),
    "mr_structure_plane": Task(60.0, 1.8, "mr_aal", labelled=200),
    "shapes": Task(0.0, boxes="synthetic"),
    "shape_size": Task(0.0, boxes="synthetic"),
}
USERS = Task(0.0)  # pictures of data=PATH
VOLUMES = ("mr", "ct")  # how the names of tasks about slices of volumes begin
# boxes that pretraining never asked for, in the same volume
NEW = {"mr_aal": "mr_new", "ct_organs": "ct_new"}
RULES = ("sixteenth", "tenth", "power", "gaussian", "quartic")


def get_config(arg: str = "") -> ConfigDict:
    """The config; see the module for `arg`."""
    arg = common.parse_arg(
        arg,
        parts="all",
        prompt="",
        policy="",
        recite="",
        grade="",
        task="",
        data="",
        boxes="",
        mfrs="",
        method="grpo",
        test="test",
        preset="",
        think="on",
        python_reward="",
        model="",
        mesh="",
        seed=0,
        smoke=False,
    )
    task = get_task(arg.task, arg.data, arg.smoke)
    model = get_model(arg, task)
    parts = get_parts(arg, task, model)
    config = ConfigDict()
    config.system = "vrft_aug"
    config.seed = arg.seed
    config.mesh = common.get_mesh(arg.mesh)
    config.rules = common.get_rules()
    config.checkpoint = common.get_checkpoint()
    config.policy = medloc.get_policy(model)
    config.policy.vocab = 768  # descriptions are read by words, not letters
    config.prompt = get_prompt(model)
    # an answer begins with its reasoning; off: it is all there is
    config.prompt.think = common.choose("think", arg.think, common.SWITCH) == "on"
    config.data = get_data(arg.data or task, task, parts, model)
    config.data.test = common.choose("test", arg.test, common.TESTED)
    use = parts.policy == "on"
    source = get_boxes(use, task, arg, model)
    config.localisation = get_localisation(use, source, arg, model)
    config.warm_start = get_supervised(steps=120, noise=0.3)
    config.train = ConfigDict(
        {
            "method": common.choose("method", arg.method, ("grpo", "sft")),
            "grpo": get_grpo(
                parts, get_rule(arg.mfrs, parts.grade), think=config.prompt.think
            ),
            "sft": get_supervised(steps=300, noise=0.0),
        }
    )
    if arg.python_reward:
        name = arg.python_reward.rpartition(":")[2]
        config.train.grpo.python_rewards = ConfigDict({name: arg.python_reward})
    config.evaluation = get_evaluation()
    config.predict = ConfigDict(common.get_predict())
    released = model not in ("", "tiny")
    preset = arg.preset or ("paper" if released else "demo")
    set_preset(config, preset)
    if released:
        set_pretrained(config)
    elif model:
        set_tiny(config, preset)
    if arg.smoke:
        set_smoke(config)
    return config


def get_task(task: str, data: str, smoke: bool) -> str:
    """The built-in task; "" where a path takes its place."""
    if data:
        if task:
            raise ValueError(f"task={task!r} and data={data!r}: expected one of them")
        return ""
    default = "shape_size" if smoke else "ct_lung"
    return common.choose("task", task or default, tuple(TASKS))


def get_model(arg: ConfigDict, task: str) -> str:
    """`policy.path`: the shipped policy where it has seen such pictures."""
    slices = task.startswith(VOLUMES) and not arg.smoke
    return common.get_model(arg.model, "tiny" if slices else "fresh")


def get_parts(arg: ConfigDict, task: str, model: str) -> ConfigDict:
    """Which of the four parts are in use."""
    everything = common.choose("parts", arg.parts, ("all", "none")) == "all"
    recite = arg.recite
    if arg.think == "off":  # there is no reasoning to recite in
        if recite not in ("", "none"):
            raise ValueError(
                f"recite={recite} and think=off: without a reasoning nothing can be "
                "recited; expected recite=none, or think=on"
            )
        recite = "none"
    # what is pretrained has learnt to box before, so it does so only where asked
    shipped = model == "tiny" and arg.preset in ("", "demo")
    located = TASKS.get(task, USERS).boxes and not model
    options = {  # name: (on, off, other choices)
        "prompt": ("on", "off"),
        "policy": ("on" if located else "off", "off", "on"),
        # a price on reciting was paid by words without sense, see docs/vrft_parts.md
        "recite": ("positive", "none", "negative")
        if shipped
        else ("negative", "none", "positive"),
        "grade": ("auto", "exact", "fuzzy", "both"),
    }
    found = ConfigDict()
    for name, choices in options.items():
        value = (recite if name == "recite" else arg[name]) or choices[not everything]
        found[name] = common.choose(name, value, tuple(dict.fromkeys(choices)))
    return found


def get_rule(rule: str, grade: str) -> str:
    """What near grades earn. Where classes are not grades nothing comes of it."""
    if rule and grade == "exact":
        raise ValueError(f"mfrs={rule} and grade=exact: near grades earn nothing")
    return common.choose("mfrs", rule or "sixteenth", RULES)


def get_prompt(model: str) -> ConfigDict:
    """A released policy is told what to write; a tiny one learns it by example."""
    released = model not in ("", "tiny")
    return ConfigDict(
        {
            "system": "auto" if released else "",  # auto: as Qwen's own; or your text
            "answer": "",  # letter, name, grade; empty: grade where ordinal, or letter
            "instruct": released,
            # tokens of a question, knowledge included
            "room": 1024 if released else 512,
        }
    )


def get_data(source: str, task: str, parts: ConfigDict, model: str) -> ConfigDict:
    """Pictures and the words about them; the fields of mm are for built-in tasks."""
    built_in, tiny = TASKS.get(task, USERS), model == "tiny"
    return ConfigDict(
        {
            "source": source,
            "size": option((112, 112) if tiny else (56, 56), Numbers(int, (2,))),
            # training pictures, drawn by the seed; 0: all there are
            "labelled": built_in.labelled if tiny else 0,
            "field": built_in.field,  # mm
            "margin": built_in.margin,  # of a crop, times the structure's longer side
            "least": 0.4,  # of a structure's usual box: smaller pieces are not shown
            "shift": 0.1,  # of a side, and
            # what pictures are moved by
            "scale": option((0.9, 1.11), Numbers(float, (2,))),
            "mirror": False,
            "test_draws": 4,  # pictures of each test slice
            # training pictures of all classes equally often; of several classes a
            # picture, each rarest one and none: GRPO then answers for that mix
            "balance": True,
            "classes": "",  # JSON file of a user's class names
            # are a user's classes grades? None: where the file says so
            "ordinal": option(None, Maybe(bool)),
            "question": "",  # about a user's images
            "test": "test",  # or val
            "test_share": 0.2,  # of the patients, where a list has no splits
            **common.get_reading(),
            "descriptions": "",  # a JSON file; empty: the task's own
            "prompt_knowledge": parts.prompt == "on",
            "recite": parts.recite != "none",
            "reason_words": 5 if model in ("", "tiny") else 40,
            "phrasings": 1,
            # draw where a pixel lies into grey pictures, see `add_ramps`: a policy from
            # random weights is told where it looks; the tiny one was trained with them
            "ramps": tiny or (not model and task.startswith(VOLUMES)),
            # of the volumes of a MedMNIST file: cut across this axis, every step voxels
            "slices": {"axis": 0, "step": 4},
            "probe": {"side": 14, "draws": 2, "penalty": 1e-3},
        }
    )


def get_boxes(use: bool, task: str, arg: ConfigDict, model: str) -> str:
    """The source of boxes that localisation learns from; "": none, and none in use."""
    own = TASKS.get(task, USERS).boxes
    source = arg.boxes or (NEW.get(own, own) if model == "tiny" else own)
    if use and not source:
        raise ValueError(
            f"policy=on: {task or arg.data} has no boxes to learn localisation from; "
            "say boxes=SOURCE, such as boxes=mr_aal, or policy=off"
        )
    return source


def get_localisation(use: bool, source: str, arg: ConfigDict, model: str) -> ConfigDict:
    """Stage 1: `configs/medloc.py`, shorter, with its curriculum."""
    words, source = bool(use or source), source or "mr_aal"
    first = medloc.get_config(
        f"model={model or 'fresh'},test={arg.test},data={source},think={arg.think}"
    )
    # A tiny policy gets the words of boxes whether or not it learns them, so that runs
    # with and without localisation start from the same policy.
    config = ConfigDict({"use": use, "words": words})
    for name in ("data", "prompt", "warm_start", "train", "evaluation"):
        config[name] = first[name]
    config.evaluation.limit = 200
    if source == "ct_organs":
        config.data.structures = "all"
        config.data.field = 380.0  # mm
    if model == "tiny":
        config.train.grpo.steps = 40
    elif not model:
        config.warm_start.steps = 250
        config.train.grpo.steps = 60
        config.data.update({"size": (56, 56), "min_side": 7})
        config.data.ramps = source != "synthetic"
    return config


def get_supervised(*, steps: int, noise: float) -> ConfigDict:
    """Supervised training; `noise` of the answers are of another class."""
    config = medloc.get_supervised(steps=steps, loose=())
    del config.loose
    config.update({"batch": 16, "questions": 1, "noise": noise})
    config.optim.warmup = 10
    return config


def get_grpo(parts: ConfigDict, rule: str, *, think: bool) -> ConfigDict:
    """One step: `batch` prompts, `group` completions of each."""
    config = medloc.get_grpo("fixed", "piecewise")
    for name in ("reward", "fixed_tau", "schedule", "schedule_changes", "entries"):
        del config[name]
    delta = {"negative": -0.5, "none": 0.0, "positive": 0.5}[parts.recite]
    config.update({"steps": 300, "batch": 16, "questions": 1})
    config.reward_weights = ConfigDict(
        {
            "accuracy": 1.0,
            "grade": 1.0,
            "format": 1.0,
            "recitation": delta,
        }
    )
    config.grade = parts.grade  # fuzzy: "grade" takes the place of "accuracy"
    config.grade_rule = rule
    # your own, such as 1,0.5,0.1, for differences 0, 1, 2
    config.grade_table = option((), Numbers(float))
    config.min_words = int(think)  # of the reasoning, for the format's reward
    config.require_label = True  # likewise
    # Where reciting costs, neither silence nor a word repeated is a way out.
    config.min_different = 3 if delta < 0 else 1
    config.without_words = 1.0 if delta < 0 else 0.0
    # words of an n-gram, such as 2; a reasoning of which more than repeat_limit of the
    # n-grams stood there before earns without_words. 0: no guard
    config.repeat_ngram = 0
    config.repeat_limit = 0.5
    # lets recitation in late: its weight rises from 0 over so many steps, once the mean
    # reward for the label over a window of steps was at least above. steps=0: at once
    config.recitation_ramp = ConfigDict({"steps": 0, "above": 0.5, "window": 10})
    config.leak_label = False  # recite the right class alone: LEAKS the label
    # of several labels, what "accuracy" is: f1 or exact of the set, or labels (a share)
    config.set_reward = "f1"
    return config


def get_evaluation() -> ConfigDict:
    """How each stage is evaluated at its end."""
    return ConfigDict(
        {
            "every": 0,
            "batch": 32,
            "questions": 1,
            "limit": 0,  # questions; 0: all
            "seed": 1,
            "bootstrap": 1000,
            "level": 0.95,
            # ask all again with each picture replaced by its mean, a row of the tables:
            # what the policy knows without looking. False: half the time
            "no_image": True,
            # rows of other runs, asked the same: name: folder of their answers, as
            # {"sft": "workdir/sft/sft/eval"} of one with method=sft (as many labels)
            "beside": {},
            # columns of the data to show scores by, as sex,scanner
            "subgroups": option((), Words(listed=True)),
            # what --answers=FILE leaves out: "refuse" it, or count it as "wrong"
            "unanswered": "refuse",
            # of several classes a picture: answers drawn a question at temperature 1;
            # the share that names a class is its score, for AUROC. 0: no AUROC
            "draws": 8,
        }
    )


def set_preset(config: ConfigDict, preset: str) -> None:
    """As `configs/medloc.py`; of VRFT-Aug no numbers are public, it follows VLM-R1."""
    medloc.set_preset(config, preset)


def set_pretrained(config: ConfigDict) -> None:
    """A Hugging Face folder needs no warm start; bf16, remat, chunked scores."""
    medloc.set_pretrained(config)
    config.data.size = (224, 224)
    config.localisation.warm_start.steps = 0


def set_tiny(config: ConfigDict, preset: str) -> None:
    """The shipped policy was never asked for a class: it is shown how to answer.

    Few steps teach the answer's form and leave answers apart, so that rewards differ
    within groups; after more of them it repeats what few labels taught.
    """
    config.warm_start.steps = 40
    config.data.test_draws = 2
    grpo = config.train.grpo
    grpo.steps = config.train.sft.steps = 90
    if preset == "demo":  # it asks something of a reasoning
        grpo.repeat_ngram = 2 * config.prompt.think


def set_smoke(config: ConfigDict) -> None:
    """Everything that a real run does, small; on shapes drawn here unless data=PATH."""
    medloc.set_smoke(config)
    first = config.localisation
    if first.data.source in (*NEW, *NEW.values()):
        first.data.source = "synthetic"
    tiny = config.policy.path == "tiny"
    first.data.update({"size": (56, 56), "ramps": tiny})
    first.evaluation.update({"limit": 16, "bootstrap": 50})
    for stage in (first.warm_start, first.train.grpo, first.train.sft):
        stage.update({"steps": 4, "batch": 8, "questions": 2})
        stage.optim.warmup = 1
    first.train.grpo.group = 4
    config.data.update({"size": (56, 56), "test_draws": 1})
    config.data.probe.update({"side": 8, "draws": 1})
    config.evaluation.draws = 2
    for stage in (config.warm_start, config.train.grpo, config.train.sft):
        stage.questions = 1

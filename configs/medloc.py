"""MedLoc-R1: a policy learns to box brain structures under a moving IoU threshold.

    python run.py --config=configs/medloc.py

On two CPU cores, in about five minutes: fetches the template brain and its labels
(15 MB), takes the shipped policy (a Qwen2.5-VL of 3.1 M parameters) to structures that
it was never asked for, in greys that it never saw; a warm start on loose boxes of 50
slices, then GRPO with MedLoc-R1's threshold; evaluates on slices held out, shifted and
scaled; writes tables, overlays and `report.html` into the workdir. The same command
goes on where a stopped run ended.

Variants, after a colon and joined by commas:

    reward=curriculum | fixed | raw_iou | progress    what an IoU is worth
    schedule=piecewise | linear | cosine | conservative | moderate | aggressive
    method=grpo | sft                                 sft: supervised on tight boxes
    preset=demo | paper | vlm_r1                      beta, temperature, learning rate;
                                                      paper where a model is given
    data=mr_new | ct_new                              what pretraining never asked for,
                                                      few labels: docs/pretrained.md
       | mr_aal | mr_dk | ct_organs | synthetic       other built-in pictures
       | PATH                                         your boxes, see the docs
    model=tiny | fresh | PATH                         the shipped one, which *_new start
                                                      from; random weights, all others
                                                      do; a Hugging Face Qwen2.5-VL
                                                      folder
    split=moved | slices | side | structure           of the MR slices
    test=test | val                                   val: slices to choose settings by
    think=on | off                                    off: the answer alone
    python_reward=FILE.py:NAME                        one of yours beside the others
    mesh=auto                                         one that fits several devices
    seed=0
    smoke                                             seconds, on drawn shapes or PATH

    python run.py --config=configs/medloc.py:reward=fixed,seed=1
    python run.py --config=configs/medloc.py:data=boxes.jsonl,model=Qwen2.5-VL-3B

Every option below can be set on its own, a list by commas, `()` for none of it, a dict
as one, and `None` where the option says so:

    --config.train.grpo.group=16 --config.data.structures=aal --config.data.size=84,84
    --config.train.grpo.sampling.top_k=50 --config.train.grpo.optim.clip_norm=None
    --config.train.grpo.schedule_changes='{"window": 10}'
    --config.data.answers=set       several boxes a question, or none: docs/box_sets.md
"""

from ml_collections import ConfigDict

from configs import common
from configs.options import Maybe, Numbers, Words, option

NEW = ("mr_new", "ct_new")  # sources that the shipped policy starts from
LORA_TARGETS = (  # all matrices of the text decoder's layers
    *("q_proj", "k_proj", "v_proj", "o_proj"),
    *("gate_proj", "up_proj", "down_proj"),
)
# What a policy of a million parameters learns to see within minutes.
LARGE = tuple(
    f"{side} {name}"
    for name in (
        *("frontal lobe", "temporal lobe", "occipital lobe"),
        *("cerebellar hemisphere", "lentiform nucleus", "thalamus"),
    )
    for side in ("left", "right")
)


def get_config(arg: str = "") -> ConfigDict:
    """The config; see the module for `arg`."""
    arg = common.parse_arg(
        arg,
        reward="curriculum",
        schedule="piecewise",
        method="grpo",
        preset="",
        data="",
        model="",
        split="moved",
        test="test",
        think="on",
        python_reward="",
        mesh="",
        seed=0,
        smoke=False,
    )
    # the new domains are the shipped policy's
    new = arg.model in ("", "tiny") and not arg.smoke
    source = arg.data or ("mr_new" if new else "mr_aal")
    tiny = source in NEW and not arg.smoke
    model = common.get_model(arg.model, "tiny" if tiny else "fresh")
    config = ConfigDict()
    config.system = "medloc"
    config.seed = arg.seed
    config.mesh = common.get_mesh(arg.mesh)
    config.rules = common.get_rules()
    config.checkpoint = common.get_checkpoint()
    config.policy = get_policy(model)
    config.prompt = get_prompt(model)
    # an answer begins with its reasoning; off: it is all there is
    config.prompt.think = common.choose("think", arg.think, common.SWITCH) == "on"
    config.data = get_data(source, arg.split, model)
    config.data.test = common.choose("test", arg.test, common.TESTED)
    config.warm_start = get_supervised(steps=800, loose=(1.1, 1.7))
    config.train = ConfigDict(
        {
            "method": common.choose("method", arg.method, ("grpo", "sft")),
            "grpo": get_grpo(arg.reward, arg.schedule),
            "sft": get_supervised(steps=600, loose=()),
        }
    )
    config.evaluation = ConfigDict(
        {
            "every": 0,  # steps; 0: at the end of a stage only
            "batch": 16,
            "questions": 4,
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
            # what --answers=FILE leaves out: "refuse" it, or count it as "wrong"
            "unanswered": "refuse",
            # columns of your list by which the report splits its scores: sex,scanner
            "subgroups": option((), Words(listed=True)),
        }
    )
    config.predict = ConfigDict(common.get_predict())
    if arg.python_reward:
        name = arg.python_reward.rpartition(":")[2]
        config.train.grpo.python_rewards = ConfigDict({name: arg.python_reward})
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


def get_policy(model: str) -> ConfigDict:
    """A tiny Qwen2.5-VL; with `path` the folder's sizes replace these."""
    return ConfigDict(
        {
            "path": model,
            "vocab": 448,
            "width": 128,
            "mlp": 320,
            "layers": 3,
            "heads": 4,
            "kv_heads": 2,
            "head_dim": 32,
            "mrope_section": option((4, 6, 6), Numbers(int, (3,))),
            # None: as the folder says
            "tied": option(None if model else True, Maybe(bool)),
            "scan_unroll": 4,
            "vision": {
                "depth": 4,
                "width": 96,
                "mlp": 192,
                "heads": 3,
                "full_blocks": option((1, 3), Numbers(int)),
                "patch": 7,
                "window": 56,
            },
            "min_pixels": 56 * 56,
            "max_pixels": 448 * 448,
            "pixels": "config",  # or folder: bounds of its preprocessor_config.json
            "dtype": "float32",
            "param_dtype": "float32",
            "remat": "none",
            "freeze_vision": False,  # no gradient into the vision tower
            # a LoRA is trained in place of all parameters, docs/howto/lora.md
            "lora": {
                "rank": option(None, Maybe(int)),  # such as 16; None: no adapter
                "alpha": 32.0,  # what it adds counts alpha / rank times
                # ends of published names; behind "visual.": of the vision tower
                "targets": option(LORA_TARGETS, Words(listed=True)),
                "merged": True,  # --mode=export writes the merged policy too
            },
            # positions of an answer that are scored at a time; None: all
            "logit_chunk": option(None, Maybe(int)),
            # where parameters lie while completions are drawn, cast to dtype once
            "rollout_rules": common.get_rules(embed=()),
        }
    )


def get_prompt(model: str) -> ConfigDict:
    """A pretrained policy is told what to write; the tiny one learns it by example."""
    # of data.answers=set the answer may also be "numbers", lists without names
    if model in ("", "tiny"):
        return ConfigDict({"system": "", "suffix": "", "answer": "object"})
    # auto: the library's words, `medjax.data.prompting.chat`; or write your own
    return ConfigDict({"system": "auto", "suffix": "auto", "answer": "list"})


def get_data(source: str, split: str, model: str) -> ConfigDict:
    """MR slices of 190 mm at 112 pixels, or a user's boxes as they are."""
    return ConfigDict(
        {
            "source": source,
            "size": option((112, 112), Numbers(int, (2,))),
            "split": split,
            # or: clear, aal, unions, all; of your list the labels, or all
            "structures": option(LARGE if source == "mr_aal" else "all", Words()),
            # training pictures, drawn by the seed; 0: all there are
            "labelled": 50 if source in NEW else 0,
            "field": 300.0 if source == "ct_new" else 190.0,  # mm
            "min_side": 14,  # pixels
            "shift": 0.25,  # of a side, and
            # what `moved` pictures are moved by
            "scale": option((0.8, 1.25), Numbers(float, (2,))),
            "phrasings": 2,
            "mirror": split != "side",
            "test": "test",
            "test_share": 0.2,  # of a user's patients, where the file has no splits
            **common.get_reading(),
            **common.get_asking(),
            # draw where a pixel lies into grey pictures, see `add_ramps`: a policy from
            # random weights is told where it looks; the tiny one was trained with them
            "ramps": model == "tiny" or (not model and source == "mr_aal"),
        }
    )


def get_supervised(*, steps: int, loose: tuple[float, ...]) -> ConfigDict:
    """Supervised training; `loose` enlarges the answers' boxes by such a factor."""
    return ConfigDict(
        {
            "steps": steps,
            "batch": 8,  # pictures
            "questions": 6,  # about each
            "loose": option(loose, Numbers(float, (0, 2))),
            "optim": {
                "lr": 2e-3,  # of norms, biases and the embedding
                "muon_lr": option(1e-2, Maybe(float)),  # of the kernels
                "decay": "cosine",
                "warmup": 30,
                "clip_norm": option(1.0, Maybe(float)),
                "weight_decay": 0.01,
                "betas": option((0.9, 0.95), Numbers(float, (2,))),
                # of parameters in bfloat16: refuse, master, stochastic; kept of the
                # gradients: full, bfloat16, factored; docs/precision.md
                "half": "refuse",
                "moments": "full",
            },
        }
    )


def get_grpo(reward: str, schedule: str) -> ConfigDict:
    """One step: batch x questions prompts, `group` completions of each."""
    rewards = ("curriculum", "fixed", "raw_iou", "progress")
    return ConfigDict(
        {
            "steps": 300,
            "batch": 8,
            "questions": 4,
            "reward": common.choose("reward", reward, rewards),
            "fixed_tau": 0.5,  # of reward=fixed, as VLM-R1
            "schedule": schedule,
            "schedule_changes": {},  # such as {"window": 10}
            "entries": "step",
            "group": 8,
            "max_tokens": 0,  # 0: as long as the longest right answer
            "sampling": {
                "temperature": 0.9,
                "top_k": option(None, Maybe(int)),
                "top_p": option(None, Maybe(float)),
            },
            # normalise=parts: each reward by its own deviation in a group, then summed
            # (GDPO), so that one of small range keeps its say; sum: their sum is
            "advantages": {"scale": "group", "ddof": 1, "normalise": "sum"},
            # of every reward; of weight 0: reported, and nothing is learnt by it
            "reward_weights": {"accuracy": 1.0, "format": 1.0},
            # name: "FILE.py:NAME", see docs/rewards.md; splits the step in two
            "python_rewards": {},
            "loss": {
                "beta": 0.0,
                "clip_low": 0.2,
                "clip_high": 0.2,
                "reduction": "grpo",
                # weight of the policy's exact entropy a token, which the loss is less
                # by; 0: none. As beta, the KL to the start, it keeps answers apart
                "entropy": 0.0,
                # largest weight of a token that counts as much as the policy's
                # probability of it is to the sampler's, where policy.dtype is not
                # policy.param_dtype and so the two differ; None: all count alike
                "importance_cap": option(2.0, Maybe(float)),
            },
            # steps without a group whose rewards differ after which it ends: well from
            # a hit rate of 0.9 on, else with exit code 3. 0 or None: it never does
            "patience": option(50, Maybe(int)),
            # pictures whose last visits all were all right or all wrong are drawn less
            # often: with probability keep, of candidates x batch pictures that come
            "revisit": {
                "visits": 0,  # in a row; 0: all pictures are drawn alike
                "keep": 0.25,
                "candidates": 2,
            },
            # what is told while it happens and stops nothing, by means over window
            # steps; None: not watched
            "watchdogs": {
                "entropy": option(0.05, Maybe(float)),  # nats a token: less is told
                # share of groups whose completions earned the same: more is told
                "no_signal": option(0.75, Maybe(float)),
                # of one reward, but those for right answers, in the variance of all
                "share": option(0.9, Maybe(float)),
                "window": 10,
            },
            # on: audit/ gets a line of each completion: what was read and paid, what
            # came of it; --mode=replay computes other rewards from it, docs/audit.md
            "audit": "off",
            "iterations": 1,
            "accumulate": 1,
            "optim": {
                "lr": 3e-4,
                "muon_lr": option(2e-3, Maybe(float)),
                "decay": "linear",
                "warmup": 10,
                "clip_norm": option(1.0, Maybe(float)),
                "weight_decay": 0.0,
                "betas": option((0.9, 0.99), Numbers(float, (2,))),
                "half": "refuse",  # as in warm_start.optim
                "moments": "full",
            },
        }
    )


def set_preset(config: ConfigDict, preset: str) -> None:
    """Numbers of the paper, of the code it builds on, or of the two-core demo."""
    common.choose("preset", preset, ("demo", "paper", "vlm_r1"))
    grpo = config.train.grpo
    if preset == "demo":
        return
    grpo.loss.beta = {"paper": 0.4, "vlm_r1": 0.04}[preset]
    grpo.sampling.temperature = {"paper": 0.9, "vlm_r1": 1.0}[preset]
    grpo.sampling.top_k = {"paper": None, "vlm_r1": 50}[preset]
    grpo.optim.update({"lr": 1e-6, "muon_lr": None, "decay": "linear", "warmup": 0})
    grpo.optim.betas = (0.9, 0.999)


def set_pretrained(config: ConfigDict) -> None:
    """A Hugging Face folder needs no warm start; bf16, remat, chunked scores."""
    config.warm_start.steps = 0
    config.policy.update({"dtype": "bfloat16", "remat": "full"})
    config.policy.update({"min_pixels": 256 * 28 * 28, "max_pixels": 1024 * 28 * 28})
    config.data.size = (448, 448)
    config.train.grpo.update({"max_tokens": 256, "questions": 1})
    config.evaluation.questions = 1
    config.policy.logit_chunk = 32
    config.train.sft.optim.update({"lr": 1e-5, "muon_lr": None})


def set_tiny(config: ConfigDict, preset: str) -> None:
    """The shipped policy sees well; it has to be told what new names mean."""
    config.warm_start.steps = 80
    config.train.sft.steps = 150
    grpo = config.train.grpo
    grpo.update({"steps": 70, "questions": 2})
    if preset == "demo":
        grpo.optim.muon_lr = 8e-3
        # tau rises where half of the answers hit, since a reward of 0 or 1 teaches most
        # there, and by a little, since after 0.15 at once nearly no answer would hit
        grpo.schedule_changes = ConfigDict(
            {
                "steps": option((0.05, 0.05, 0.05), Numbers(float, (3,))),
                "hit_rates": option((0.5, 0.5, 0.5), Numbers(float, (3,))),
                "check_margin": False,
                "window": 10,
            }
        )


def set_smoke(config: ConfigDict) -> None:
    """Everything that a real run does, small; on shapes drawn here unless data=PATH."""
    if config.data.source in ("mr_aal", *NEW):
        config.data.source = "synthetic"
    config.data.update({"size": (56, 56), "ramps": config.policy.path == "tiny"})
    config.policy.update({"min_pixels": 56 * 56, "max_pixels": 56 * 56})
    config.policy.update({"width": 32, "mlp": 64, "layers": 1, "head_dim": 8})
    config.policy.mrope_section = (2, 1, 1)
    config.policy.vision.update({"depth": 2, "width": 32, "mlp": 32, "heads": 2})
    config.policy.vision.full_blocks = (1,)
    for stage in (config.warm_start, config.train.grpo, config.train.sft):
        steps = min(stage.steps, 4)
        stage.update({"steps": steps, "batch": 8, "questions": 2})
        stage.optim.warmup = 1
    config.train.grpo.group = 4
    config.evaluation.update({"limit": 16, "bootstrap": 50})
    config.checkpoint.every = 2

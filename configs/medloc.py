r"""MedLoc-R1: visual grounding by GRPO under a moving IoU threshold.

    python run.py --config=configs/medloc.py

trains a policy of a million parameters on real MR slices (MNI152 with AAL names) on a
laptop: a supervised warm start on loose boxes, then GRPO; about ten minutes on two CPU
cores. Arguments follow a colon, numbers are flags:

    --config=configs/medloc.py:reward=fixed,schedule=linear --config.grpo.steps=200

    reward    curriculum (the paper) | fixed (VLM-R1) | raw_iou | progress (V-Triune)
    method    grpo | sft, the supervised baseline on tight boxes
    schedule  of the curriculum: piecewise | linear | cosine
    data      mr_aal | synthetic (no network) | a folder with boxes in a .jsonl file
    model     a Hugging Face folder of the Qwen2.5-VL family; without it a tiny policy
    preset    demo | paper | vlm_r1; paper where a model is given. 3B-32B on one or more
              GPU or TPU hosts, hours to days: --config.mesh.fsdp=8
    smoke     a few steps on synthetic data, seconds
"""

from configs import common
from ml_collections import ConfigDict

TINY = {
    "width": 128,
    "mlp": 352,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "mrope_section": (4, 6, 6),
    "tied": True,
    "vision": {
        "depth": 3,
        "width": 96,
        "mlp": 256,
        "heads": 4,
        "full_blocks": (1, 2),
        "patch": 14,
        "window": 56,
    },
}
SMOKE = {
    "width": 32,
    "mlp": 48,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "mrope_section": (2, 1, 1),
    "tied": True,
    "vision": {
        "depth": 2,
        "width": 16,
        "mlp": 24,
        "heads": 2,
        "full_blocks": (1,),
        "patch": 14,
        "window": 28,
    },
}


def get_config(arg=""):
    """The settings of a run; `arg` as above."""
    arg = common.parse_arg(
        arg,
        reward=("curriculum", "fixed", "raw_iou", "progress"),
        method=("grpo", "sft"),
        schedule=("piecewise", "linear", "cosine"),
        data="mr_aal",
        model="",
        preset=("auto", "demo", "paper", "vlm_r1"),
        smoke=False,
    )
    preset = arg.preset
    if preset == "auto":
        preset = "paper" if arg.model else "demo"
    config = ConfigDict()
    config.recipe = "medloc"
    config.name = "medloc-smoke" if arg.smoke else "medloc"
    config.seed = 0
    config.on_nonfinite = "stop"  # or skip; both are counted
    config.mesh = common.mesh()
    config.rules = common.rules()
    config.policy = policy(arg.model)
    config.data = data(arg.data, tiny=not arg.model)
    config.system = system(arg.reward, arg.schedule)
    config.eval = ConfigDict(
        {
            "batch": 16,  # contexts
            "limit": 512,  # questions; 0 = all
            "intervals": 1000,  # bootstrap samples
            "baseline_draws": 4,  # of every training view, for the no-image baselines
            "sheet": 6,  # best, median and worst answers drawn
        }
    )
    config.checkpoint = common.checkpoint(every=50)
    config.warm_start = stage("sft", steps=300, batch=8, lr=1e-3)
    config.warm_start.loose = (1.1, 2.0)  # boxes enlarged so, as coarse labels are
    config.grpo = stage("grpo", steps=150, batch=8, lr=3e-4)
    config.sft = stage("sft", steps=450, batch=8, lr=1e-3)
    config.stages = ("warm_start", "grpo") if arg.method == "grpo" else ("sft",)
    if preset != "demo":
        released(config, preset, arg.method)
    if arg.smoke:
        smoke(config)
    return config


def policy(path):
    """The policy: a folder's, or one of `sizes` with a tokenizer trained for the run."""
    return ConfigDict(
        {
            "path": path,
            "dtype": "bfloat16" if path else "float32",  # activations, matmuls
            "param_dtype": "float32",
            "remat": "full" if path else "none",
            "min_pixels": 3136 if path else 112 * 112,
            "max_pixels": 1003520 if path else 112 * 112,
            "vocab": 640,  # of the tokenizer; without a path
            "sizes": TINY,  # without a path
        }
    )


def data(source, *, tiny):
    """Images and questions."""
    return ConfigDict(
        {
            "source": source,
            "questions": 4,  # asked about each view
            "answer": "object" if tiny else "list",
            "system_turn": not tiny,
            "instruction": not tiny,  # spell the answer's format out in each question
            "ramps": tiny,  # tell an untrained policy where a patch is, by colour
            "pad_multiple": 8 if tiny else 64,  # tokens
            # mr_aal
            "split": "moved",
            "structures": "clear" if tiny else "aal",
            "size": (112, 112) if tiny else (448, 448),
            "field": 200.0,  # mm along the shorter side
            "min_side": 8,  # pixels; smaller boxes are not asked for
            "phrasings": 1 if tiny else 8,
            "mirror": False,
            # synthetic
            "views": 256,
            # a folder
            "test_share": 0.2,
        }
    )


def system(reward, schedule):
    """The reward, the sampler and the loss; beta as in the paper."""
    fixed = reward == "fixed"
    return ConfigDict(
        {
            "accuracy": reward,
            "schedule": {
                "name": "fixed" if fixed else schedule,
                "tau": 0.5,  # of "fixed"
                "changes": {},  # numbers of the schedule that differ
            },
            "group": 8,
            "max_tokens": 0,  # of a completion; 0 = the longest right answer
            "sampling": {"temperature": 0.9, "top_k": None, "top_p": None},
            "advantages": {"scale": "group", "ddof": 1, "eps": 1e-4},
            "loss": {
                "beta": 0.0,
                "clip_low": 0.2,
                "clip_high": 0.2,
                "kl": "k3",
                "reduction": "grpo",
            },
            "reward_weights": {"accuracy": 1.0, "format": 1.0},
            "entries": "step",
            "iterations": 1,
            "accumulate": 1,
            "freeze_vision": False,
            "logit_chunk": None,
        }
    )


def stage(method, *, steps, batch, lr):
    """One phase of training; `batch` counts contexts, each with its questions."""
    return ConfigDict(
        {
            "method": method,
            "steps": steps,
            "batch": batch,
            "loose": (),  # factors by which boxes of supervised answers are enlarged
            "evaluate_every": 0,  # 0 = at the end
            "optim": common.optim(lr),
        }
    )


def released(config, preset, method):
    """Numbers of the paper, or of VLM-R1 on which it is built, for released models."""
    config.system.loss.beta = 0.4 if preset == "paper" else 0.04
    config.system.sampling.temperature = 0.9 if preset == "paper" else 1.0
    config.system.sampling.top_k = None if preset == "paper" else 50
    config.system.max_tokens = 256
    config.system.logit_chunk = 64
    config.data.questions = 1
    for name in ("grpo", "sft"):
        config[name].steps = 1000
        config[name].batch = 16
        config[name].evaluate_every = 250
        config[name].optim.lr = 1e-6 if name == "grpo" else 1e-5
        config[name].optim.decay = "linear"
    if method == "grpo":
        config.stages = ("grpo",)


def smoke(config):
    """Everything once, in seconds."""
    config.policy.sizes = SMOKE
    config.policy.min_pixels = config.policy.max_pixels = 56 * 56
    config.data.source = "synthetic"
    config.data.size = (56, 56)
    config.data.views = 8
    config.data.questions = 2
    config.eval.batch, config.eval.limit = 4, 8
    config.eval.intervals, config.eval.baseline_draws = 20, 1
    config.system.group = 4
    config.checkpoint.every = 2
    for name in ("warm_start", "grpo", "sft"):
        config[name].steps = 3
        config[name].batch = 4

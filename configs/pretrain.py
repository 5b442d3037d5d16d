"""Pretraining: the small policy that starts other runs, on several sources at once.

    python run.py --config=configs/pretrain.py
    python run.py --config=configs/pretrain.py --mode=export

Trains a tiny Qwen2.5-VL (3.1 M parameters) by written answers: boxes of 71 brain
structures in MR, of 28 structures in CT windows, of nuclei and drawn shapes, each
answer telling first the picture's plane and modality and where the structure lies, how
large and how bright it is. What is held out for new domains, and whose terms allow the
weights to be given away: docs/pretrained.md. About 90 minutes on two cores; the same
command goes on where a stopped run ended. The second command writes the policy as a
Hugging Face folder with its card, workdir/pretrain/policy.

Variants, after a colon and joined by commas:

    seed=0
    smoke                 seconds, on drawn shapes
"""

from ml_collections import ConfigDict

from configs import common, medloc
from configs.options import Numbers, Words, option


def get_config(arg: str = "") -> ConfigDict:
    """The config; see the module for `arg`."""
    arg = common.parse_arg(arg, seed=0, smoke=False)
    config = ConfigDict()
    config.system = "pretrain"
    config.seed = arg.seed
    config.mesh = common.get_mesh()
    config.rules = common.get_rules()
    config.checkpoint = common.get_checkpoint()
    config.checkpoint.every = 50
    config.policy = medloc.get_policy("")
    config.policy.update({"vocab": 1024, "width": 192, "mlp": 480, "layers": 4})
    config.policy.update({"heads": 6, "min_pixels": 56 * 56})
    config.policy.vision.update({"depth": 6, "width": 128, "mlp": 256, "heads": 4})
    config.policy.vision.full_blocks = (2, 5)
    config.prompt = medloc.get_prompt("")
    config.data = get_data()
    config.warm_start = medloc.get_supervised(steps=1200, loose=())
    config.train = medloc.get_supervised(steps=10000, loose=())
    for stage in (config.warm_start, config.train):  # many pictures, fewer questions
        stage.update({"batch": 12, "questions": 4})
    config.evaluation = ConfigDict(
        {
            "every": 0,  # steps; 0: at the end alone
            "batch": 16,
            "questions": 4,
            "limit": 0,  # questions; 0: all
            "seed": 1,
            "bootstrap": 1000,
            "level": 0.95,
        }
    )
    if arg.smoke:
        set_smoke(config)
    return config


def get_data() -> ConfigDict:
    """Sources, what is asked of them, and how their pictures are changed."""
    return ConfigDict(
        {
            # how much of the training pictures is of each source, in any unit
            "shares": {"mr_dk": 70.0, "ct_organs": 12.0, "nuclei": 4.0, "shapes": 4.0},
            # of the volumes: seen (all that are not held out), or names
            "structures": {
                "mr_dk": option("seen", Words()),
                "ct_organs": option("seen", Words()),
            },
            "size": option((112, 112), Numbers(int, (2,))),
            "fields": {"mr_dk": 190.0, "ct_organs": 300.0},  # mm
            "crop": 80.0,  # of nuclei, pixels of their image
            "min_side": 7,  # pixels
            "phrasings": 4,
            "changes": {  # of training pictures, at random
                "shift": 0.25,  # of a side, both ways
                "scale": option((0.8, 1.25), Numbers(float, (2,))),
                "turn": 5.0,  # degrees, both ways
                "invert": 0.1,  # share with inverted greys
                "gamma": 0.25,  # greys to the power of exp(u), u so far both ways
                "contrast": 0.25,  # share by which greys are drawn together at most
                "noise": 4.0,  # largest deviation, in grey levels
            },
            # tells where it looks, see `add_ramps`; who starts from it needs the same
            "ramps": True,
            # sources of the first stage, whose pictures are moved and scaled alone
            "plain": option(("mr_dk",), Words(listed=True)),
        }
    )


def set_smoke(config: ConfigDict) -> None:
    """Everything that a real run does, small; on drawn shapes alone."""
    config.data.shares = ConfigDict({"shapes": 1.0})
    config.data.plain = ("shapes",)
    config.data.size = (56, 56)
    config.policy.update({"min_pixels": 56 * 56, "max_pixels": 56 * 56})
    config.policy.update({"width": 32, "mlp": 64, "layers": 1, "head_dim": 8})
    config.policy.update({"heads": 4, "mrope_section": (2, 1, 1)})
    config.policy.vision.update({"depth": 2, "width": 32, "mlp": 32, "heads": 2})
    config.policy.vision.full_blocks = (1,)
    for stage in (config.warm_start, config.train):
        stage.update({"steps": 4, "batch": 8, "questions": 2})
        stage.optim.warmup = 1
    config.evaluation.update({"limit": 16, "bootstrap": 50, "every": 0})
    config.checkpoint.every = 2

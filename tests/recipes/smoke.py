"""The smallest medloc run, as its recipe gets it."""

import pathlib

import jax
import numpy as np

from configs.medloc import get_config
from medjax.recipes.boxes.data import (
    BoxData,
    BoxPrompt,
    box_style,
    box_words,
    load_box_parts,
)
from medjax.recipes.boxes.task import box_setup
from medjax.recipes.medloc import read_training
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section

LOOP = ("system", "seed", "mesh", "rules", "checkpoint", "predict")
POLICY = {  # smaller than smoke's: these tests compile nothing
    "policy.vocab": 400,
    "policy.width": 16,
    "policy.mlp": 16,
    "policy.heads": 2,
    "policy.kv_heads": 1,
}


def sections(arg="", **changes):
    """Sections of the config `smoke,ARG`; changes by dotted name, `__` for the dot."""
    config = get_config(f"smoke,{arg}")
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    with config.ignore_type():
        config.update_from_flattened_dict(POLICY | dotted)
    found = config.to_dict()
    return {name: found[name] for name in found if name not in LOOP}


WHERE = {"seed": 0, "workdir": pathlib.Path("nowhere")}


def make_setup(arg="", **changes):
    """Data and policy of the smallest medloc run."""
    return setup_of(sections(arg, **changes))


def setup_of(found):
    """Data and policy of a medloc run with these sections."""
    data = read_section(BoxData, "data", found["data"])
    words = read_section(BoxPrompt, "prompt", found["prompt"])
    style = box_style(words, answers=data.answers)
    geometry, finish = open_policy(found["policy"])
    parts = load_box_parts(data, geometry, seed=WHERE["seed"])
    evaluation = read_section(Evaluation, "evaluation", found["evaluation"])
    policy = finish(*box_words(parts, style), style=style)
    return box_setup(
        parts, policy, style, ramps=data.ramps, evaluation=evaluation, **WHERE
    )


def make_training(arg="", **changes):
    """The stages that a medloc run asks for."""
    found = sections(arg, **changes)
    return read_training(found["warm_start"], found["train"])


def draw_params(model, seed=0):
    """Random parameters of a policy without a compilation."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)

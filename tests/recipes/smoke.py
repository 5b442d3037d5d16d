"""The smallest medloc run, as its recipe gets it."""

import pathlib

from configs.medloc import get_config

LOOP = ("system", "seed", "mesh", "rules", "checkpoint")
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


def setup_sections(arg="", **changes):
    """What `make_setup` takes of them."""
    found = sections(arg, **changes)
    names = ("policy", "data", "prompt", "evaluation")
    return {name: found[name] for name in names}


WHERE = {"seed": 0, "workdir": pathlib.Path("nowhere")}

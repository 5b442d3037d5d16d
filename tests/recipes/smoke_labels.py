"""The smallest vrft_aug run, as its recipe gets it."""

from configs.vrft_aug import get_config
from medjax.recipes.classes.data import LabelData, load_labels
from medjax.recipes.sections import read_section
from tests.recipes.smoke import LOOP, POLICY

LABEL_POLICY = POLICY | {"policy.vocab": 448}


def label_sections(arg="", **changes):
    """Sections of the config `smoke,ARG`; changes by dotted name, `__` for the dot."""
    config = get_config(f"smoke,{arg}")
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    with config.ignore_type():
        config.update_from_flattened_dict(LABEL_POLICY | dotted)
    found = config.to_dict()
    return {name: found[name] for name in found if name not in LOOP}


def label_parts(arg="", **changes):
    """Pictures and words of the config `smoke,ARG`; changes of the section `data`."""
    dotted = {f"data__{name}": value for name, value in changes.items()}
    data = read_section(LabelData, "data", label_sections(arg, **dotted)["data"])
    return load_labels(data, seed=0)

"""The smallest vrft_aug run, as its recipe gets it."""

from configs.vrft_aug import get_config
from medjax.data.classes.medmnist import Slices
from medjax.data.lists.reading import split_reading
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


def label_options(arg="", **changes):
    """What `load_label_parts` takes of them."""
    data = label_sections(arg, **changes)["data"]
    reading, options = split_reading(data)
    for name in ("ramps", "probe", "check", "identify"):
        del options[name]
    options["slices"] = Slices(**options["slices"])
    return options | {"reading": reading}

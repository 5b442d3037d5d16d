"""The smallest `puq` run, as its recipes get it, and a scan to predict from."""

import pathlib

import numpy as np

from configs.puq import get_config
from medjax.data.qmri.batches import eval_batches
from medjax.recipes.qmri.options import Data, Evaluation, Fit, Network
from medjax.recipes.sections import read_section
from tests.data.qmri.toy_head import ACQUISITION, POPULATION

LOOP = ("system", "seed", "mesh", "rules", "checkpoint")
WHERE = {"seed": 0, "workdir": pathlib.Path("nowhere")}


def sections(arg="", **changes):
    """Sections of the config `smoke,ARG`; changes by dotted name, `__` for the dot."""
    config = get_config(f"smoke,{arg}")
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    with config.ignore_type():
        config.update_from_flattened_dict(dotted)
    chosen = config.to_dict()
    return {name: chosen[name] for name in chosen if name not in LOOP}


def records(arg="", **changes):
    """The same as records: data, network, fit, evaluation."""
    chosen = sections(arg, **changes)
    kinds = {"data": Data, "network": Network, "fit": Fit, "evaluation": Evaluation}
    return {k: read_section(record, k, chosen[k]) for k, record in kinds.items()}


def toy_slices(phase=0.0, center_fraction=0.25, limit=3, acceleration=4.0):
    """(k-space [Z E C H W], noiseless images [Z E H W], sens, roi) of one subject."""
    acquisition = ACQUISITION._replace(
        snr=(60.0, 60.0),
        phase=phase,
        center_fraction=center_fraction,
        accelerations=(acceleration,),
    )
    batches = eval_batches(
        POPULATION, acquisition, part="test", subjects=1, batch=1, seed=0, limit=limit
    )
    rows = [batch for batch, _ in batches]
    return tuple(
        np.concatenate([getattr(row, name) for row in rows])
        for name in ("kspace", "target", "sens", "roi")
    )


def save_scan(path, **more):
    """A file of our own layout."""
    times = np.array(ACQUISITION.protocol.times)
    np.savez(path, te=times, voxel_mm=np.array([6.5, 6.5, 8.0]), **more)
    return path

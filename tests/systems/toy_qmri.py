"""A small `puq` on a head that needs no file: what tests of its systems share."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.data.qmri.batches import eval_batches
from medjax.models.denoiser import Regressor
from medjax.mri.catalogue import signal_model
from medjax.mri.subspace import exponential_basis
from medjax.systems.optimizer import make_optimizer
from medjax.systems.puq import reconstruction
from medjax.systems.puq.network import Design, Estimator, Quantity
from tests.data.qmri.toy_head import ACQUISITION, POPULATION

TIMES = ACQUISITION.protocol.times
E = len(TIMES)
DESIGN = Design(E, 6, 1, 0.3, 2, False, "hard", unroll=2)
SUBSPACE = Design(2, 6, 1, 0.3, 2, True, "cg", 0.05, 3, 5, unroll=2)
REGRESSOR = Regressor(8, 1)
QUANTITY = Quantity(signal_model("t2"), TIMES, (0.01, 2.0))
BASIS = jnp.asarray(
    exponential_basis(np.array(TIMES), rank=2, low=0.03, high=2.5, atoms=50),
    jnp.float32,
)

HARD = Estimator(DESIGN, None, REGRESSOR, "first", QUANTITY)
LOW_RANK = Estimator(SUBSPACE, BASIS, REGRESSOR, "first", QUANTITY)


def toy_batch():
    batches = eval_batches(
        POPULATION, ACQUISITION, part="test", subjects=2, batch=8, seed=0
    )
    return jax.tree.map(jnp.asarray, next(batches)[0])


def no_evaluation(state, batch, key):
    raise AssertionError("nobody evaluates here")


def toy_system(estimator=HARD):
    optimizer = make_optimizer(lr=1e-2, steps=20)
    return reconstruction.build(estimator, optimizer, no_evaluation)


def changed(before, after):
    """Names of the top two levels of parameters in which any array differs."""

    def parts(params):
        for top, tree in params.items():
            inner = tree if isinstance(tree, dict) else {"": tree}
            yield from (
                (f"{top}.{name}", jax.tree.leaves(x)) for name, x in inner.items()
            )

    pairs = zip(parts(before), parts(after), strict=True)
    return {
        name
        for (name, old), (_, new) in pairs
        if any(not np.array_equal(x, y) for x, y in zip(old, new, strict=True))
    }

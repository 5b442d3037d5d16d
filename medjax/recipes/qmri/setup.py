"""What the stages of a `puq` run and its predictions share, made from a config."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from medjax.data.qmri.simulate import make_protocol
from medjax.mri.catalogue import signal_model
from medjax.mri.subspace import exponential_basis, inversion_recovery_basis
from medjax.recipes.qmri.options import Definition, Subspace
from medjax.systems.puq.network import Design, Estimator, Quantity, Regressor

# Fitted model and subspace of each contrast; `bounds` of a fit are the config's.
MODELS = {"t2": "t2", "t1": "t1_ir"}
BASES = {"t2": exponential_basis, "t1": inversion_recovery_basis}


def make_estimator(definition: Definition) -> Estimator:
    """The network in its subspace, the regressors, and the quantity they are for.

    Raises:
        ValueError: The times are no protocol of the contrast, or the range or rank of
            the subspace makes no basis.
    """
    (contrast, times), network, fit = definition
    times = make_protocol(contrast, times or None).times
    options = network._asdict()
    subspace = options.pop("subspace")
    basis = make_basis(contrast, times, subspace) if subspace.rank else None
    low, high = fit.bounds
    return Estimator(
        design=Design(channels=subspace.rank or len(times), **options),
        basis=None if basis is None else jnp.asarray(basis),
        regressor=Regressor(fit.width, fit.layers),
        normalisation=fit.normalisation,
        quantity=Quantity(
            signal_model(MODELS[contrast]), times, (float(low), float(high))
        ),
    )


def make_basis(
    contrast: str, times: tuple[float, ...], subspace: Subspace
) -> Float[np.ndarray, "E K"]:
    """An orthonormal basis of the contrast's signal curves, as float32.

    Args:
        contrast: One of "t2" and "t1".
        times: The E echo or inversion times in seconds.
        subspace: The range of the curves' time constants, and K, its rank, 1 or more.

    Raises:
        ValueError: The times, the range or the rank make no basis.
    """
    basis = BASES[contrast](np.array(times), **subspace._asdict())
    return basis.astype(np.float32)

import numpy as np
import pytest

from medjax.data.qmri.simulate import T2_TIMES
from medjax.recipes.qmri.options import Subspace, define
from medjax.recipes.qmri.population import make_setup
from medjax.recipes.qmri.setup import make_basis, make_estimator
from tests.recipes.puq_smoke import records


def setup(arg="", **changes):
    return make_setup(seed=0, **records(arg, **changes))


@pytest.mark.parametrize(
    ("arg", "channels", "consistency"),
    [
        ("form=subspace", 3, "cg"),
        ("form=puq", 8, "hard"),
        ("form=modl", 8, "cg"),
        ("form=puq,contrast=t1", 8, "hard"),
        ("preset=paper", 8, "hard"),
    ],
)
def test_forms_of_the_network(arg, channels, consistency):
    chosen = records(arg)
    data, network, fit, _ = chosen.values()
    estimator = make_estimator(define(data, network, fit))
    design = estimator.design
    assert (design.channels, design.consistency) == (channels, consistency)
    assert (estimator.basis is None) == (channels == 8)
    assert estimator.rank == (None if channels == 8 else channels)
    assert estimator.quantity.model.time_constant == data.contrast


def test_the_default_protocol_is_the_authors():
    made = setup()
    assert made.estimator.quantity.times == T2_TIMES
    assert made.acquisition.accelerations == (6.0,)
    assert made.population.size == 32


def test_times_of_the_config_are_measured_and_fitted():
    made = setup(data__times=(0.01, 0.05, 0.2))
    times = made.estimator.quantity.times
    assert times == made.acquisition.protocol.times == (0.01, 0.05, 0.2)


def test_times_in_milliseconds_are_refused():
    with pytest.raises(ValueError, match="milliseconds, divide by 1000"):
        setup(data__times=(10.0, 50.0, 200.0))


def test_bases_are_orthonormal_curves_of_the_contrast():
    times = (0.05, 0.3, 1.0, 3.0)
    subspace = Subspace(rank=2, low=0.2, high=4.0, atoms=40)
    decays, recoveries = (make_basis(c, times, subspace) for c in ("t2", "t1"))
    for basis in (decays, recoveries):
        np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-6)
    assert (recoveries[:, 0] < 0).any() and (decays[:, 0] > 0).all()

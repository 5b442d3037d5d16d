import numpy as np
import pytest

from medjax.data.qmri.simulate import T2_TIMES
from medjax.recipes.qmri.setup import make_basis, make_design, make_quantity, make_setup
from tests.recipes.puq_smoke import WHERE, sections

SECTIONS = ("data", "network", "fit", "evaluation")


def setup(arg="", **changes):
    found = sections(arg, **changes)
    return make_setup(**WHERE, **{name: found[name] for name in SECTIONS})


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
    found = sections(arg)
    contrast = found["data"]["contrast"]
    times = tuple(0.1 * (i + 1) for i in range(8))
    design, basis = make_design(found["network"], contrast, times)
    assert (design.channels, design.consistency) == (channels, consistency)
    assert (basis is None) == (channels == 8)
    quantity = make_quantity(contrast, times, found["fit"]["bounds"])
    assert quantity.model.time_constant == contrast


def test_the_default_protocol_is_the_authors():
    made = setup()
    assert made.quantity.times == T2_TIMES
    assert made.acquisition.accelerations == (6.0,)
    assert made.population.size == 32


def test_times_of_the_config_are_measured_and_fitted():
    made = setup(data__times=(0.01, 0.05, 0.2))
    assert made.quantity.times == made.acquisition.protocol.times == (0.01, 0.05, 0.2)


def test_times_in_milliseconds_are_refused():
    with pytest.raises(ValueError, match="milliseconds, divide by 1000"):
        setup(data__times=(10.0, 50.0, 200.0))


def test_bases_are_orthonormal_curves_of_the_contrast():
    times = (0.05, 0.3, 1.0, 3.0)
    options = {"rank": 2, "low": 0.2, "high": 4.0, "atoms": 40}
    decays, recoveries = (make_basis(c, times, options) for c in ("t2", "t1"))
    for basis in (decays, recoveries):
        np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-6)
    assert (recoveries[:, 0] < 0).any() and (decays[:, 0] > 0).all()

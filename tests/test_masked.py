import jax.numpy as jnp
import numpy as np

from medjax.masked import compute, mean_of, merge


def test_parts_merge_to_the_mean_of_all():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=20).astype(np.float32), rng.random(20) < 0.6
    parts = [mean_of(values[i : i + 7], mask[i : i + 7]) for i in range(0, 20, 7)]
    whole = merge(merge(parts[0], parts[1]), parts[2])
    # float32 sums of twenty values in another order
    np.testing.assert_allclose(
        compute(whole), values[mask].astype(np.float64).mean(), rtol=1e-5
    )
    assert int(whole.count) == mask.sum()


def test_masked_values_have_no_say_and_nothing_counted_is_nan():
    values = jnp.array([1.0, jnp.nan, jnp.inf], jnp.float32)
    assert float(compute(mean_of(values, jnp.array([True, False, False])))) == 1.0
    assert np.isnan(compute(mean_of(values, jnp.zeros(3, bool))))

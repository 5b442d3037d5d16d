import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models.denoiser import Denoiser, Regressor, from_channels, to_channels


@pytest.fixture(scope="module")
def made():
    net = Denoiser(width=6, layers=2, dropout=0.3)
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 4), jnp.float32)
    variables = net.init(jax.random.key(1), x, None, training=False)
    # the last norm starts at 0; give it a value so that the network says something
    variables["params"]["BatchNorm_3"]["scale"] += 1.0
    run = jax.jit(lambda v, x, keys: net.apply(v, x, keys, training=False))
    return net, x, variables, run


def conv(x, kernel):
    """3 x 3, zero padded, as plain loops over the kernel."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )


def test_equals_the_layers_written_out(made):
    net, x, variables, run = made
    params = jax.tree.map(np.float64, variables["params"])
    hidden = np.float64(x)
    for layer in range(net.layers + 2):
        hidden = conv(hidden, params[f"Conv_{layer}"]["kernel"])
        hidden = hidden / np.sqrt(1 + 1e-5)  # running mean 0, variance 1
        hidden = hidden * params[f"BatchNorm_{layer}"]["scale"]
        if layer <= net.layers:
            hidden = np.maximum(hidden, 0)
    np.testing.assert_allclose(run(variables, x, None), hidden, atol=2e-5)


def test_adds_nothing_before_training():
    net = Denoiser(width=6, layers=1, dropout=0.3)
    x = jnp.ones((1, 4, 4, 2), jnp.float32)
    variables = net.init(jax.random.key(0), x, None, training=False)
    y, _ = net.apply(variables, x, None, training=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, 0)


def test_dropout_is_a_slice_s_own_whatever_the_batch(made):
    _, x, variables, run = made
    keys = jax.random.split(jax.random.key(5), 3)
    whole = run(variables, x, keys)
    order = jnp.array([2, 0, 1])
    moved = run(variables, x[order], keys[order])
    np.testing.assert_allclose(moved, whole[order], atol=1e-6)
    assert not np.allclose(whole, run(variables, x, None), atol=1e-3)


def test_training_norms_by_the_batch_and_moves_the_running_statistics(made):
    net, x, variables, _ = made
    _, new = net.apply(variables, x, None, training=True, mutable=["batch_stats"])
    first = conv(np.float64(x), np.float64(variables["params"]["Conv_0"]["kernel"]))
    moved = new["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(moved, 0.1 * first.mean((0, 1, 2)), atol=1e-6)


def test_channels_round_trip():
    key = jax.random.key(3)
    images = jax.random.normal(key, (2, 3, 4, 5), jnp.complex64)
    channels = to_channels(images)
    assert channels.shape == (2, 4, 5, 6)
    np.testing.assert_array_equal(channels[..., 4], images.imag[:, 1])
    np.testing.assert_array_equal(from_channels(channels), images)


def test_regressor_stays_between_0_and_1():
    net = Regressor(width=8, layers=2)
    x = 100 * jax.random.normal(jax.random.key(0), (2, 7, 4), jnp.float32)
    params = net.init(jax.random.key(1), x)
    y = net.apply(params, x)
    assert y.shape == (2, 7)
    assert (y >= 0).all()
    assert (y <= 1).all()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (1, 1, 1, 1)])
def test_channels_of_axes_of_no_or_one_length(shape):
    images = jnp.full(shape, 1 - 2j)
    channels = to_channels(images)
    assert channels.shape == (shape[0], *shape[2:], 2 * shape[1])
    np.testing.assert_array_equal(from_channels(channels), images)


def test_channels_name_what_does_not_fit():
    with pytest.raises(ValueError, match=r"channels: .* even .* \(1, 2, 2, 3\)"):
        from_channels(jnp.ones((1, 2, 2, 3)))
    with pytest.raises(ValueError, match="images: expected complex .* found float64"):
        to_channels(jnp.ones((1, 2, 2, 3)))


def test_dropout_does_not_draw_by_the_precision_switch(made):
    _, x, variables, run = made
    keys = jax.random.split(jax.random.key(5), 3)
    with jax.enable_x64(False):
        single = run(variables, x, keys)
    np.testing.assert_allclose(run(variables, x, keys), single, atol=1e-5)

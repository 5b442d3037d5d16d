"""Programs written to bytes by jax.export and read back, on one device and on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import PartitionSpec as P
from scipy import optimize

from medjax import fit_map, grpo_loss, mri, rl, sense_forward, signal_model, types
from medjax.models import qwen25vl
from medjax.rl import (
    build_tables,
    init_threshold,
    parse_completions,
    parse_text,
    piecewise_schedule,
    update_threshold,
)

pytestmark = pytest.mark.usefixtures("plain_jax")

RNG = np.random.default_rng(8)
TIMES = np.array([0.01, 0.03, 0.06, 0.1])
IMAGES = np.exp(-TIMES[:, None] / RNG.uniform(0.04, 0.12, 16)).astype(np.float32)
IMAGES += RNG.normal(0, 0.01, IMAGES.shape).astype(np.float32)

N, T = 8, 5
LOGP, OLD = RNG.uniform(-2, -1, (2, N, T)).astype(np.float32)
ADVANTAGES = RNG.normal(size=N).astype(np.float32)
MASK = np.arange(T) < RNG.integers(1, T + 1, (N, 1))

E, C, H, W = 8, 3, 4, 6
SENS = (RNG.normal(size=(C, H, W)) + 1j * RNG.normal(size=(C, H, W))).astype(
    np.complex64
)
PICTURES = RNG.normal(size=(E, H, W)).astype(np.complex64)


def fit(images):
    return fit_map(images, TIMES, model=signal_model("t2"))


def loss(logp, logp_old, advantages, mask):
    value, metrics = grpo_loss(
        logp,
        logp_old,
        advantages,
        mask,
        beta=0.0,
        clip_low=0.2,
        clip_high=0.2,
        reduction="bnpo",
    )
    return value, metrics["tokens"]


def coils(images):
    return sense_forward(images, jnp.array(SENS))


def check_fit(found):
    params = {name: np.asarray(x) for name, x in found.params.items()}
    for voxel, samples in enumerate(IMAGES.T.astype(float)):
        (s0, t2), _ = optimize.curve_fit(
            lambda t, s0, t2: s0 * np.exp(-t / t2), TIMES, samples, p0=(1, 0.08)
        )
        np.testing.assert_allclose(params["s0"][voxel], s0, rtol=1e-5)
        np.testing.assert_allclose(params["t2"][voxel], t2, rtol=1e-5)


def check_loss(found):
    ratio = np.exp((LOGP - OLD).astype(float))
    advantages = ADVANTAGES.astype(float)[:, None]
    clipped = np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages)
    np.testing.assert_allclose(found[0], -clipped[MASK].mean(), rtol=1e-5)
    assert found[1] == MASK.sum()


def check_coils(found):
    coils = SENS[None] * PICTURES[:, None]
    shifted = np.fft.ifftshift(coils, (-2, -1))
    expected = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), (-2, -1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


PROGRAMS = {
    "fit": (fit, (IMAGES,), (P(None, "d"),), check_fit),
    "loss": (loss, (LOGP, OLD, ADVANTAGES, MASK), (P("d"),) * 4, check_loss),
    "operator": (coils, (PICTURES,), (P("d"),), check_coils),
}
each_program = pytest.mark.parametrize("name", PROGRAMS)


def written_and_read(function, *arrays):
    """What another process runs."""
    written = export.export(jax.jit(function))(*arrays).serialize()
    return export.deserialize(written).call


@each_program
def test_on_one_device(name):
    function, arrays, _, check = PROGRAMS[name]
    check(written_and_read(function, *arrays)(*arrays))


@pytest.mark.parametrize(
    "kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit], ids=str
)
@each_program
def test_on_eight_devices(name, kind):
    function, arrays, specs, check = PROGRAMS[name]
    mesh = jax.make_mesh((8,), ("d",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        arrays = [
            jax.device_put(x, jax.NamedSharding(mesh, spec))
            for x, spec in zip(arrays, specs, strict=True)
        ]
        check(jax.jit(written_and_read(function, *arrays))(*arrays))


@each_program
def test_compiled_ahead_of_time(name):
    function, arrays, _, check = PROGRAMS[name]
    check(jax.jit(function).lower(*arrays).compile()(*arrays))


def test_a_step_of_the_scheduler_goes_through_a_file():
    """Its state and the tables of a vocabulary are arguments, records and all."""
    schedule = piecewise_schedule()._replace(window=1)
    state = init_threshold(schedule)

    def step(state, iou):
        return update_threshold(state, iou, schedule)

    iou = np.full((2, 3), 0.9, np.float32)
    state, info = written_and_read(step, state, iou)(state, iou)
    # one entry fills the window, all hit, and 0.9 is 0.6 above 0.3
    np.testing.assert_allclose(info["tau_next"], 0.45, rtol=1e-6)
    assert int(state.raises) == 1


def test_a_reader_of_boxes_goes_through_a_file():
    text = b'<answer>{"bbox_2d": [1, 2, 3, 4]}</answer>'
    tokens = np.frombuffer(text, np.uint8).astype(np.int32)[None]
    mask = np.ones_like(tokens, bool)
    tables = build_tables([bytes([byte]) for byte in range(256)])
    read = written_and_read(parse_completions, tokens, mask, tables)
    found, expected = read(tokens, mask, tables), parse_text(text)
    for name, value in expected._asdict().items():
        np.testing.assert_array_equal(getattr(found, name)[0], value, err_msg=name)


def test_a_gradient_is_written_too():
    found = export.export(jax.jit(functools.partial(fit)))(IMAGES).serialize(
        vjp_order=1
    )
    read = export.deserialize(found)

    def total(images):
        return jnp.sum(read.call(images).params["t2"])

    gradient = jax.grad(total)(jnp.array(IMAGES))
    move = RNG.normal(size=IMAGES.shape)

    def t2(sign):
        values = []
        for samples in (IMAGES + sign * 1e-4 * move).T:
            found, _ = optimize.curve_fit(
                lambda t, s0, t2: s0 * np.exp(-t / t2), TIMES, samples, p0=(1, 0.08)
            )
            values.append(found[1])
        return sum(values)

    expected = (t2(1) - t2(-1)) / 2e-4
    np.testing.assert_allclose(np.sum(gradient * move), expected, rtol=1e-3)


ROOMS = (types, rl, mri, qwen25vl)
# Their fields are numbers, text, functions or NumPy's arrays, and no program's.
NO_ARRAYS = {
    "Adapter",
    "Background",
    "Clipped",
    "Decoding",
    "Ends",
    "HubTensor",
    "LabelForms",
    "Mp2rage",
    "PolicyModel",
    "Qwen25VLConfig",
    "RewardRamp",
    "Sampler",
    "SignalModel",
    "System",
    "ThresholdSchedule",
    "VisionConfig",
}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_every_record_of_arrays_can_be_an_argument_and_a_result(room):
    """Of the public ones; a field is one number here."""
    names = getattr(room, "__all__", dir(room))
    records = [getattr(room, n) for n in names if hasattr(getattr(room, n), "_fields")]
    records = [record for record in records if record.__name__ not in NO_ARRAYS]
    assert records
    for record in records:
        given = record(*map(jnp.float32, range(len(record._fields))))
        back = written_and_read(lambda x: x, given)(given)
        assert type(back) is record
        assert [float(x) for x in back] == list(range(len(record._fields)))

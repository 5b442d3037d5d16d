"""What people got wrong who had read the docs alone, and what they are told."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from medjax import rl
from medjax.models import qwen25vl
from tests.reuse import qwen25vl_calls as policy

PROMPTS, GROUP, LENGTH = 2, 3, 4
REWARDS = np.arange(6, dtype=np.float32).reshape(PROMPTS, GROUP)
ROWS = np.zeros((6, LENGTH), np.float32)
ADVANTAGES = functools.partial(rl.group_advantages, scale="group")
LOSS = functools.partial(
    rl.grpo_loss, beta=0.0, clip_low=0.2, clip_high=0.2, reduction="dapo"
)


@pytest.mark.parametrize(
    "key", [jax.random.key(0), jax.random.split(jax.random.key(0))]
)
def test_one_key_for_all_rows(key):
    with pytest.raises(
        ValueError, match=r"^sample_loop: row_keys: expected "
    ) as caught:
        rl.sample_loop(
            lambda carry, tokens, index: (ROWS, carry),
            (),
            ROWS,
            key,
            max_tokens=3,
            stop_tokens=[],
            pad=0,
        )
    if key.ndim:  # keys, but not as many as rows
        assert "R = 6 from logits; found key<fry> of shape (2,)" in str(caught.value)
    else:
        assert "rollout_keys(key, sample_id, group) or jax.random.split(key, rows)" in (
            str(caught.value)
        )


def test_valid_of_rows_where_groups_are_meant():
    valid = np.array([1, 1, 1, 1, 0, 1], bool)
    message = (
        r"^group_advantages: valid: expected shape \[B, G\] or \[B, 1\], B = 2 and "
        r"G = 3; found bool of shape \(6,\); valid.reshape\(2, 3\) marks"
    )
    with pytest.raises(ValueError, match=message):
        ADVANTAGES(REWARDS, valid=valid)
    ADVANTAGES(REWARDS, valid=valid.reshape(2, 3))
    with pytest.raises(ValueError, match=r"valid\[:, None\] marks whole groups"):
        ADVANTAGES(REWARDS, valid=valid[:2])
    with pytest.raises(ValueError, match=r"valid\[:, None\] marks whole groups"):
        ADVANTAGES(REWARDS.reshape(6, 1), valid=valid)


def test_advantages_of_groups_where_rows_are_meant():
    advantages, mask = ADVANTAGES(REWARDS), np.ones(ROWS.shape, bool)
    message = r"advantages: .*found float32 of shape \(2, 3\); advantages.reshape\(-1\)"
    with pytest.raises(ValueError, match=message):
        LOSS(ROWS, ROWS, advantages, mask)
    LOSS(ROWS, ROWS, advantages.reshape(-1), mask)
    with pytest.raises(ValueError, match=r"mask.reshape\(6, 4\) has this shape"):
        LOSS(ROWS, ROWS, advantages.reshape(-1), mask.reshape(2, 3, 4))
    with pytest.raises(ValueError, match=r"found float32 of shape \(2, 2\)$"):
        LOSS(ROWS, ROWS, advantages[:, :2], mask)  # other numbers: nothing helps


def test_a_mistyped_axis_name():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    step = jax.shard_map(
        lambda mask: rl.loss_denominator(mask, reduction="dapo", axis_name="dat"),
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P(),
    )
    message = (
        r"^loss_denominator: axis_name: expected an axis .*those of shard_map are "
        r"\['data'\]; found 'dat'"
    )
    with pytest.raises(ValueError, match=message):
        step(np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"there is none; found 'data'; pass None"):
        rl.loss_denominator(np.ones((2, 3), bool), reduction="dapo", axis_name="data")
    count = jax.vmap(
        lambda mask: rl.loss_denominator(mask, reduction="dapo", axis_name="seed"),
        axis_name="seed",
    )
    np.testing.assert_array_equal(count(np.ones((2, 3, 4), bool)), [24, 24])


def spread(mesh, tree, spec):
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, spec)), tree)


def test_contexts_that_an_explicit_mesh_does_not_divide():
    prompt = policy.PROMPT._replace(
        images=jax.tree.map(lambda x: x[:4], policy.PROMPT.images),
        context=jax.tree.map(lambda x: x[:4], policy.PROMPT.context),
    )
    prefill = functools.partial(qwen25vl.prefill, policy.CONFIG, policy.PARAMS)
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((8,), ("d",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            question = spread(mesh, prompt.question, P("d"))
            call = functools.partial(
                jax.jit(prefill), prompt._replace(question=question)
            )
            if kind == AxisType.Auto:
                assert call(policy.FEATURES[:4]).last.shape[0] == 8
                continue
            message = (
                r"^extend: past: expected .* over the 8 devices that the 8 rows of x "
                r"lie on .* found one of 4 rows .*AxisType.Auto"
            )
            with pytest.raises(ValueError, match=message):
                call(policy.FEATURES[:4])


def test_completions_of_a_prompt_on_several_devices():
    mesh = jax.make_mesh((2,), ("d",))
    score = functools.partial(
        qwen25vl.completion_logps, policy.CONFIG, policy.PARAMS, policy.PREFILL
    )
    with jax.set_mesh(mesh):
        tokens, mask = spread(mesh, (policy.TOKENS, policy.MASK), P(None, "d"))
        message = (
            r"^completion_logps: tokens, mask: .*over 2 .*divide the prompts, axis B"
        )
        with pytest.raises(ValueError, match=message):
            score(tokens, mask)

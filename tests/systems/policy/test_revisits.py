"""A step that chooses its pictures: what it takes, counts, and takes again."""

from typing import NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax.rl import VisitState
from medjax.runtime.loop import train
from medjax.runtime.naming import named
from medjax.sharding import batch_sharding, make_mesh
from medjax.systems.policy import exploration
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.exploration import Explorer, Scored, Step
from medjax.systems.policy.host_rewards import HostReward
from medjax.systems.policy.learner import Loss, Teaching
from medjax.systems.policy.revisits import Candidates, Revisits, note_visits, pick
from tests.systems.policy.test_exploration import RULES, table_model
from tests.tiny import decoding, pick_contexts, tiny_batch

PICTURES, TAKEN, CAME = 12, 4, 8
REVISITS = Revisits(PICTURES, TAKEN, visits=1, keep=0.0, rewards=("accuracy",))


class Carry(NamedTuple):
    reference: object
    visits: object = ()


def score(carry, batch, rollout, step):
    """Pictures below 6 are all right; of the others half of the answers are."""
    easy = (batch.sample_id // 2 < 6)[:, None]
    group = rollout.tokens.shape[1]
    right = easy | (jnp.arange(group) < group // 2)[None]
    wordy = rollout.tokens[..., 0] % 2 == 0
    rewards = {"accuracy": right, "format": wordy}
    rewards = {name: x.astype(jnp.float32) for name, x in rewards.items()}
    # `seen`: which pictures were taken, as a number that tells them apart
    seen = jnp.sum(jnp.exp2((batch.sample_id // 2).astype(jnp.float32))) / 2
    return Scored(rewards, right, right | True, carry, {"seen": seen})


def build(revisits=REVISITS, host_rewards=None, weights=None):
    step = Step(
        group=4,
        decoding=decoding(temperature=1.0),
        advantages=Advantages("group"),
        reward_weights=weights or {"accuracy": 1.0, "format": 1.0},
        teaching=Teaching(Loss(0.0, clip_low=0.2, clip_high=0.2, reduction="grpo")),
        revisits=revisits,
    )
    explorer = Explorer(table_model(), optax.sgd(0.1), Carry, score, step)
    return exploration.build(explorer, lambda *_: None, host_rewards)


def candidates(index):
    picture = (index * CAME + np.arange(CAME)) % PICTURES
    batch = tiny_batch(contexts=CAME, seed=index)
    ids = 2 * np.repeat(picture, 2) + np.tile([0, 1], CAME)
    return Candidates(
        batch._replace(sample_id=ids.astype(np.int32)), picture.astype(np.int32)
    )


def test_the_contexts_chosen_come_with_their_questions():
    given = candidates(0)
    visits = VisitState(jnp.array([1, 0, 1, 0, 0, 1] + [0] * 6, jnp.int32))
    picked = pick(REVISITS, visits, given, jax.random.key(0))
    expected = pick_contexts(given.batch, [1, 3, 4, 6])
    jax.tree.map(np.testing.assert_array_equal, picked.batch, expected)
    assert picked.picture.tolist() == [1, 3, 4, 6]


def test_a_visit_teaches_where_a_right_answer_earns_more_than_another():
    """Not where the format differs, and not in rows that only fill."""
    given = candidates(0)
    picked = pick(REVISITS, VisitState(jnp.zeros(12, jnp.int32)), given, KEY)
    rewards = {"accuracy": np.zeros((8, 4)), "format": np.arange(32.0).reshape(8, 4)}
    rewards["accuracy"][[3, 6], 0] = 1  # pictures 1 and 3
    valid = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool)  # picture 3 only fills
    picked = picked._replace(batch=picked.batch._replace(valid=valid))
    before = VisitState(jnp.array([5, 5, 0] + [5] * 9, jnp.int32))
    new, shares = note_visits(REVISITS, before, picked, rewards, {}, floor=1e-6)
    assert new.idle.tolist() == [6, 0, 1] + [5] * 9
    assert float(shares["settled"]) == 7 / 8
    assert float(shares["revisited"]) == 3 / 4
    assert float(shares["passed_over"]) == 4 / 8


KEY = jax.random.key(0)


def run(workdir, steps, checkpoint_every=100):
    source = grain.MapDataset.range(1000).map(candidates)
    return train(
        build(),
        source.to_iter_dataset(grain.ReadOptions(num_threads=0)),
        mesh=make_mesh({"data": 1}, jax.devices()[:1]),
        rules=RULES | {"batch": ("data",)},
        seed=0,
        workdir=workdir,
        keep=2,
        identity={},
        steps=steps,
        checkpoint_every=checkpoint_every,
    )


def rows(folder):
    return (folder / "metrics.jsonl").read_text()


def test_a_resumed_run_visits_the_same_pictures_bitwise(tmp_path):
    whole = run(tmp_path / "whole", 9)
    run(tmp_path / "parts", 4)
    parts = run(tmp_path / "parts", 9)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    left, right = named(whole), named(parts)
    assert "aux.visits.idle" in left
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)
    # the easy ones are idle, the others never are
    idle = np.asarray(whole.aux.visits.idle)
    assert (idle[6:] == 0).all() and idle[:6].min() >= 1
    assert '"passed_over"' in rows(tmp_path / "whole")


def test_settled_pictures_are_taken_less_often():
    state = jax.jit(build().init)(KEY)
    update = jax.jit(build().update)
    taken = np.zeros(PICTURES)
    for n in range(30):
        state, metrics = update(state, candidates(n), jax.random.key(n))
        seen = int(metrics["seen"])
        taken += [(seen >> k) & 1 for k in range(PICTURES)]
    assert taken.sum() == 30 * TAKEN
    # easy ones only fill up where a step's candidates have too few hard ones
    assert taken[6:].sum() > 3 * taken[:6].sum()


def test_a_split_step_takes_what_the_whole_step_takes():
    def host(batch, rollout, *_):
        assert len(batch.valid) == 2 * TAKEN
        return {"host": HostReward(np.zeros(rollout.mask.shape[:2]))}

    weights = {"accuracy": 1.0, "format": 1.0, "host": 1.0}
    split, whole = build(host_rewards=host, weights=weights), build()
    state = jax.jit(whole.init)(KEY)
    state = state._replace(aux=Carry((), VisitState(jnp.array([1, 0] * 6, jnp.int32))))
    expected, metrics = jax.jit(whole.update)(state, candidates(0), KEY)
    scored = split.prepare(state, candidates(0), KEY)
    found, values = jax.jit(split.update)(state, scored, KEY)
    jax.tree.map(np.testing.assert_array_equal, found.aux, expected.aux)
    for name in ("seen", "settled", "passed_over", "revisited"):
        assert float(values[name]) == float(metrics[name])


def test_eight_devices_take_what_one_takes():
    """Candidates lie a context a device; what is taken is gathered from them."""
    mesh, system = make_mesh({"data": 8}), build()
    state = jax.jit(system.init)(KEY)
    state = state._replace(aux=Carry((), VisitState(jnp.array([1, 0] * 6, jnp.int32))))
    update, given = jax.jit(system.update), candidates(0)
    one, metrics = update(state, given, KEY)
    rows = jax.device_put(given, batch_sharding(given, mesh, {"batch": ("data",)}))
    assert rows.picture.sharding.shard_shape((CAME,)) == (1,)
    eight, values = update(state, rows, KEY)
    np.testing.assert_array_equal(eight.aux.visits.idle, one.aux.visits.idle)
    assert float(values["seen"]) == float(metrics["seen"])
    np.testing.assert_allclose(
        eight.params["table"], one.params["table"], rtol=0, atol=1e-6
    )


def test_what_does_not_fit_is_refused():
    shapes = jax.eval_shape(build().init, KEY)
    with pytest.raises(ValueError, match="GroundingBatch with revisits on"):
        jax.eval_shape(build().update, shapes, tiny_batch(), KEY)
    alike = build(revisits=None)
    shapes = jax.eval_shape(alike.init, KEY)
    assert shapes.aux.visits == ()
    with pytest.raises(ValueError, match="Candidates with revisits off"):
        jax.eval_shape(alike.update, shapes, candidates(0), KEY)

"""A policy that draws whole answers from a bank: a stage of GRPO within a second."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from medjax.runtime.stages import run_stages
from medjax.sharding import make_mesh
from medjax.types import PolicyModel, Rollout

RULES = {"batch": None, "vocab": None}


def bank_model(tokenizer, ends, texts, *, vocab, room):
    """Draws of `texts`, the stop token behind each; its scores are a table's."""
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    rows = [[*row[: room - 1], ends.stop_tokens[0]] for row in rows]
    tokens = np.full((len(rows), room), ends.pad, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for n, row in enumerate(rows):
        tokens[n, : len(row)] = row
        mask[n, : len(row)] = True

    def score(params, prefilled, tokens, mask):
        logp = jax.nn.log_softmax(params["table"])
        picked = logp[tokens]
        entropy = jnp.broadcast_to(-jnp.sum(jnp.exp(logp) * logp), picked.shape)
        return picked, entropy

    def sample(params, prefilled, sample_id, key, *, group, decoding):
        logits = jnp.zeros(len(rows), jnp.float32)
        drawn = jax.random.categorical(key, logits, shape=(len(sample_id), group))
        found, marks = jnp.asarray(tokens)[drawn], jnp.asarray(mask)[drawn]
        logp, _ = score(params, prefilled, found, marks)
        return Rollout(found, marks, logp, logp)

    return PolicyModel(
        init=lambda key: {"table": jax.random.normal(key, (vocab,), jnp.float32)},
        axes={"table": PartitionSpec("vocab")},
        prefill=lambda params, prompt: (),
        sample=sample,
        score=score,
    )


def with_bank(setup, texts, *, room):
    """A setup whose policy draws from `texts`."""
    policy = setup.policy
    model = bank_model(
        policy.tokenizer,
        policy.ends,
        texts,
        vocab=len(policy.tables.vocab_start),
        room=room,
    )
    return setup._replace(policy=policy._replace(model=model, sampler=None))


def run_stage(stage, workdir, *, every=100):
    """Train one stage, from where it stands."""
    with jax.numpy_dtype_promotion("standard"):
        run_stages(
            [stage._replace(eval_batches=None, check=None)],
            mesh=make_mesh({"data": 1}, jax.devices()[:1]),
            rules=RULES,
            seed=0,
            workdir=workdir,
            checkpoint_every=every,
            keep=1,
            on_nonfinite="stop",
            facts={},
        )

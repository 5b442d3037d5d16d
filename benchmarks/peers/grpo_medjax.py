"""GRPO steps of medjax: one compiled program a step, state donated."""

import dataclasses
import functools
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
from protocol import Channel, prompt_tokens

from medjax.models.qwen25vl import Qwen25VLConfig, VisionConfig, init_params
from medjax.rl import group_advantages
from medjax.systems.policy.learner import Loss, Teaching, policy_step
from medjax.systems.policy.qwen25vl import make_model
from medjax.types import Decoding, Ends, Images, Prompt, Segment, TrainState

QUESTION = 1  # tokens of the prompt that form its second segment


def make_config(workload):
    half = workload["width"] // workload["heads"] // 2
    return Qwen25VLConfig(
        vocab=workload["vocab"],
        width=workload["width"],
        mlp=workload["mlp"],
        layers=workload["layers"],
        heads=workload["heads"],
        kv_heads=workload["kv_heads"],
        head_dim=2 * half,
        mrope_section=(half - 2 * (half // 3), half // 3, half // 3),
        tied=True,
        # no image is shown: the tower is as small as it can be and never runs
        vision=VisionConfig(depth=1, width=4, mlp=4, heads=1, full_blocks=(0,)),
    )


def make_prompt(tokens):
    """Text alone: no image slots, one question a context."""
    rows, length = tokens.shape

    def segment(start, stop):
        shape = (rows, stop - start)
        position = np.broadcast_to(np.arange(start, stop, dtype=np.int32), shape)
        return Segment(
            tokens[:, start:stop],
            np.ones(shape, bool),
            np.repeat(position[..., None], 3, axis=-1),
            np.full(shape, -1, np.int32),
        )

    patch = 3 * 2 * 14 * 14
    images = Images(
        np.zeros((rows, 0, 64, patch), np.float32),
        np.zeros((rows, 0, 64, 2), np.int32),
        np.zeros((rows, 0, 64), bool),
    )
    return Prompt(
        images,
        segment(0, length - QUESTION),
        segment(length - QUESTION, length),
        np.full(rows, length, np.int32),
    )


def make_step(config, optimizer, workload):
    """The whole step: rollout, reward, advantages, update.

    Layers are unrolled for the gradient, where a scan would stack what the backward
    pass needs, and not for the tokens, where XLA would copy every cache at each.
    """
    sampler = make_model(config)
    learner = make_model(dataclasses.replace(config, scan_unroll=config.layers))
    decoding = Decoding(Ends((), 0), workload["new_tokens"], temperature=1.0)
    loss = Loss(workload["beta"], clip_low=0.2, clip_high=0.2, reduction="grpo")

    def step(state, reference, prompt, root):
        rollout = sampler.sample(
            state.params,
            sampler.prefill(state.params, prompt),
            jnp.arange(workload["prompts"], dtype=jnp.int32),
            jax.random.fold_in(root, state.step),
            group=workload["group"],
            decoding=decoding,
        )
        rewards = jnp.mean((rollout.tokens % 2 == 0).astype(jnp.float32), axis=-1)
        params, opt_state, metrics = policy_step(
            learner,
            optimizer,
            state.params,
            state.opt_state,
            reference,
            prompt,
            rollout,
            group_advantages(rewards, scale="group"),
            teaching=Teaching(loss),
        )
        metrics |= {
            "reward": jnp.mean(rewards),
            "reward_std": jnp.mean(jnp.std(rewards, axis=-1, ddof=1)),
            "length": jnp.mean(jnp.sum(rollout.mask, axis=-1, dtype=jnp.float32)),
        }
        return TrainState(params, opt_state, state.step + 1), metrics

    return jax.jit(step, donate_argnums=0)


def main():
    channel = Channel()
    workload = channel.workload
    config = make_config(workload)
    # as TRL's and tunix' AdamW is set up there: no decay, no schedule
    optimizer = optax.adamw(workload["lr"], weight_decay=0.0)
    params = jax.jit(functools.partial(init_params, config))(jax.random.key(0))
    reference = jax.tree.map(jnp.copy, params)
    state = TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))
    step, root = make_step(config, optimizer, workload), jax.random.key(1)
    names = ("jax", "flax", "optax")
    channel.ready(**{name: importlib.metadata.version(name) for name in names})
    for index in range(2**31):
        channel.wait()
        prompt = make_prompt(np.array(prompt_tokens(workload, index), np.int32))
        state, metrics = step(state, reference, prompt, root)
        state, metrics = jax.block_until_ready((state, metrics))
        seen = ("reward", "reward_std", "length", "loss", "kl")
        channel.done(**{name: float(metrics[name]) for name in seen})


if __name__ == "__main__":
    main()

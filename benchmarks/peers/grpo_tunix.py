"""GRPO steps of google-tunix: its learner's own loop, held up by the data it asks for.

pip install google-tunix==0.1.7
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import functools
import importlib.metadata
import itertools

import jax
import numpy as np
import optax
from flax import nnx
from protocol import Channel, prompt_tokens
from tunix.models.qwen2 import model as qwen2
from tunix.rl import rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

PAD, END, BEGIN = 0, 1, 2


class Words:
    """A word a token, as w17 is token 17; what tunix asks of a tokenizer."""

    def encode(self, text, **_):
        return [int(word[1:]) for word in text.split()]

    def decode(self, ids, **_):
        return " ".join(f"w{int(i)}" for i in np.ravel(ids))

    def pad_id(self):
        return PAD

    def eos_id(self):
        return END

    def bos_id(self):
        return BEGIN


def make_policy(workload):
    config = qwen2.ModelConfig(
        num_layers=workload["layers"],
        vocab_size=workload["vocab"],
        embed_dim=workload["width"],
        hidden_dim=workload["mlp"],
        num_heads=workload["heads"],
        head_dim=workload["width"] // workload["heads"],
        num_kv_heads=workload["kv_heads"],
        rope_theta=1_000_000,
        norm_eps=1e-6,
        use_tied_embedding=True,
    )
    policy = qwen2.Qwen2(config, rngs=nnx.Rngs(0))
    # Built from a config its MLP is all zeros and its tied embedding a unit normal,
    # which would sample almost greedily: draw the one, shrink the other.
    keys = map(
        functools.partial(jax.random.fold_in, jax.random.key(0)), itertools.count()
    )

    def redraw(path, x):
        name = jax.tree_util.keystr(path)
        if "mlp" in name:
            return 0.02 * jax.random.normal(next(keys), x.shape, x.dtype)
        return 0.02 * x if "embedding" in name else x

    state = jax.tree_util.tree_map_with_path(redraw, nnx.state(policy))
    nnx.update(policy, state)
    return policy


def make_reward(group, seen):
    def share_of_even(prompts, completions, **_):  # noqa: ARG001
        numbers = [[int(word[1:]) for word in text.split()] for text in completions]
        rewards = [sum(n % 2 == 0 for n in row) / max(len(row), 1) for row in numbers]
        spread = np.std(np.reshape(rewards, (-1, group)), axis=1, ddof=1)
        seen["reward"] = float(np.mean(rewards))
        seen["reward_std"] = float(np.mean(spread))
        seen["length"] = float(np.mean([len(row) for row in numbers]))
        return rewards

    return share_of_even


def main():
    channel = Channel()
    workload = channel.workload
    seen = {}
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    with mesh:
        actor, reference = make_policy(workload), make_policy(workload)
        role = rl_cluster.Role
        settings = rl_cluster.ClusterConfig(
            role_to_mesh=dict.fromkeys(
                (role.ACTOR, role.REFERENCE, role.ROLLOUT), mesh
            ),
            rollout_engine="vanilla",
            offload_to_cpu=False,
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optax.adamw(workload["lr"], weight_decay=0.0),
                eval_every_n_steps=10**9,
                max_steps=10**9,
            ),
            rollout_config=base_rollout.RolloutConfig(
                max_prompt_length=workload["prompt_tokens"],
                max_tokens_to_generate=workload["new_tokens"],
                kv_cache_size=workload["prompt_tokens"] + workload["new_tokens"] + 8,
                temperature=1.0,
                # out of reach: every completion has its full length
                eos_tokens=[workload["vocab"] + 7],
            ),
        )
        learner = grpo_learner.GRPOLearner(
            rl_cluster.RLCluster(
                actor=actor,
                reference=reference,
                tokenizer=Words(),
                cluster_config=settings,
            ),
            reward_fns=make_reward(workload["group"], seen),
            algo_config=grpo_learner.GRPOConfig(
                num_generations=workload["group"],
                num_iterations=1,
                beta=workload["beta"],
                kl_loss_mode="low_var_kl",
            ),
        )

        def batches():
            """The learner asks for a batch once the step before has been taken."""
            for step in itertools.count():
                channel.wait()
                # the sampler puts one token in front
                rows = [row[1:] for row in prompt_tokens(workload, step)]
                texts = [" ".join(f"w{token}" for token in row) for row in rows]
                yield {"prompts": np.array(texts)}
                jax.block_until_ready(jax.tree.leaves(nnx.state(actor)))
                channel.done(**seen)

        names = ("google-tunix", "jax", "flax", "optax")
        channel.ready(**{name: importlib.metadata.version(name) for name in names})
        learner.train(batches())


if __name__ == "__main__":
    main()

"""What the parity tests compare, computed by our policy."""

import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from medjax.models.qwen25vl.export import save_qwen25vl
from medjax.models.qwen25vl.hf_config import config_from_hf
from medjax.models.qwen25vl.policy import encode_images, prefill, prompt_logits
from medjax.models.qwen25vl.tensor_table import hub_tensors
from medjax.systems.policy.qwen25vl import sample
from medjax.types import Decoding, Ends
from tests.oracles import qwen25vl_inputs as inputs


def random_tensors(*, patch, tied):
    """The oracle's parameters under their published names, and its config."""
    content = inputs.flat_config(patch, tied)
    tensors = {
        t.name: inputs.random_tensor(t.name, t.shape, tied=tied)
        for t in hub_tensors(config_from_hf(content))
    }
    return content, tensors


def write_folder(folder, content, tensors):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    save_file(tensors, folder / "model.safetensors")
    return folder


def mean_loss(config, params, prompt):
    """Next-token loss over all tokens but image ones; each segment's own, and the join.

    The second result is the logits it was made of.
    """
    context, question = prompt_logits(config, params, prompt)
    first = jnp.argmax(prompt.question.mask, axis=1)
    joint = jnp.take_along_axis(prompt.question.tokens, first[:, None], axis=1)
    parts = [
        (context[:, :-1], prompt.context.tokens[:, 1:], prompt.context.mask[:, :-1]),
        (context[:, -1:], joint, jnp.ones_like(joint, bool)),
        (question[:, :-1], prompt.question.tokens[:, 1:], prompt.question.mask[:, :-1]),
    ]
    total, count = 0.0, 0
    for scores, targets, mask in parts:
        logp = jax.nn.log_softmax(scores)
        picked = jnp.take_along_axis(logp, targets[..., None], axis=-1)[..., 0]
        kept = mask & (targets != inputs.IMAGE)
        total = total - jnp.sum(jnp.where(kept, picked, 0))
        count = count + jnp.sum(kept, dtype=jnp.int32)
    return total / count.astype(total.dtype), (context, question)


def measure(config, params, case, folder, *, new_tokens):
    """Our counterpart of the oracle's arrays, and gradients under published names."""
    prompt = inputs.make_prompt(case)
    _, places = inputs.pack_images(case)
    with jax.default_matmul_precision("highest"):
        prompt = jax.tree.map(jnp.asarray, prompt)
        features = jax.jit(encode_images, static_argnums=0)(
            config, params, prompt.images
        )
        step = jax.jit(jax.value_and_grad(mean_loss, 1, has_aux=True), static_argnums=0)
        (loss, logits), grads = step(config, params, prompt)

        ends = Ends((), inputs.PAD)

        @jax.jit
        def greedy(params, features):
            return sample(
                config,
                params,
                prefill(config, params, prompt, features),
                jnp.arange(len(case.rows), dtype=jnp.int32),
                jax.random.key(0),
                group=1,
                decoding=Decoding(ends, new_tokens, temperature=0.0),
            )

        tokens = greedy(params, features).tokens[:, 0]
    save_qwen25vl(folder, config, grads, token_ids=inputs.TOKEN_IDS)
    owners = [b for b, sizes in enumerate(inputs.ROWS) for _ in sizes]
    features = np.asarray(features)
    return {
        "image_features": np.concatenate(
            [features[b, place] for b, place in zip(owners, places, strict=True)]
        ),
        "logits": join_segments(case, *map(np.asarray, logits)),
        "positions": join_segments(
            case, prompt.context.positions, prompt.question.positions
        ),
        "next_position": np.asarray(prompt.next_position),
        "loss": np.asarray(loss),
        "greedy_ids": np.asarray(tokens),
        "grads": load_file(folder / "model.safetensors"),
    }


def join_segments(case, context, question):
    """Per row what both segments hold for its tokens, padding left out."""
    return [
        np.concatenate([context[b, -split:], question[b, split - len(row) :]])
        for b, (row, split) in enumerate(zip(case.rows, case.splits, strict=True))
    ]


def relative_errors(found, expected):
    """Largest error of each gradient against that tensor's largest value."""
    assert found.keys() == expected.keys()
    return {
        name: np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()
        for name in found
    }


def digest(grads):
    """Norm of each gradient, and its product with a random direction of length 1."""
    out = {}
    for name, grad in grads.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        direction = rng.standard_normal(grad.shape)
        product = np.sum(grad * direction) / np.linalg.norm(direction)
        out[name] = np.array([np.linalg.norm(grad.astype(np.float64)), product])
    return out

"""Qwen2.5-VL as a `PolicyModel`: the one place where systems meet this base model.

Each prompt is computed once. What a run needs beside it to open and save a checkpoint
(sizes, weights, folders) is named here too, so that nothing above imports the model.
"""

import os
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_arrays, check_integers, check_key
from medjax.indexing import repeat_rows
from medjax.models.qwen25vl import (
    Cache,
    Prefill,
    Qwen25VLConfig,
    VisionConfig,
    completion_logps,
    config_from_hf,
    embed_tokens,
    encode_images,
    extend,
    flatten_params,
    folder_config,
    hub_tensors,
    init_params,
    load_qwen25vl,
    logits,
    merge_adapter,
    param_axes,
    save_qwen25vl,
)
from medjax.models.qwen25vl import prefill as prefill_prompt
from medjax.models.qwen25vl.config import Lora
from medjax.models.qwen25vl.files import refuse_adapter
from medjax.models.qwen25vl.lora import (
    find_targets,
    init_lora,
    join_lora,
    lora_axes,
    merge_lora,
    split_lora,
)
from medjax.models.qwen25vl.lora_files import save_lora
from medjax.rl.sampling import rollout_keys, sample_loop
from medjax.sharding import Rules, constrain, lay_out, rule_table
from medjax.types import (
    Adapter,
    Decoding,
    Key,
    Params,
    PolicyModel,
    Prompt,
    Rollout,
    Sampler,
)

__all__ = [
    "Lora",
    "Qwen25VLConfig",
    "VisionConfig",
    "config_from_hf",
    "find_targets",
    "folder_config",
    "load_weights",
    "make_model",
    "make_sampler",
    "merge_adapter",
    "merge_lora",
    "prefill",
    "refuse_adapter",
    "sample",
    "save_lora",
    "save_qwen25vl",
    "score",
    "split_lora",
]


def make_model(
    config: Qwen25VLConfig,
    *,
    freeze_vision: bool = False,
    logit_chunk: int | None = None,
    rules: Rules | None = None,
) -> PolicyModel:
    """The policy as a record of functions of its parameters.

    Args:
        config: The policy's sizes, and the dtypes that it computes in; with `lora` an
            adapter is what is trained of it, see `find_targets`. No number is computed.
            Sizes that do not fit each other are refused in JAX's own words,
            here or by the function that reads them.
        freeze_vision: Whether the vision tower is a constant: no gradient flows into
            it, and it costs no backward pass. Decoupled weight decay still moves its
            kernels.
        logit_chunk: How many completion positions' V scores `score` holds at a time, an
            integer of 1 or more, see `completion_logps`, which refuses others when
            `score` is called; None holds all.
        rules: The mesh axes of the logical axes batch, heads, kv_heads, mlp,
            vision_heads, vision_mlp and vocab, and any others. Activations are held to
            them, see `constrain`, on the mesh that parameters and rows lie on; None
            leaves them to the config's `rules`.

    Returns:
        `init`, `prefill`, `sample` and `score` with the config bound, to be called with
        parameters, and `axes`, the tree of `param_axes`; both with the leaves of the
        adapter where there is one.

    Raises:
        TypeError: heads that the key-value heads do not divide, or no vocabulary.
        ValueError: an unknown `remat`, or an adapter that `find_targets` refuses.
    """
    if rules is not None:
        config = replace(config, rules=rule_table(rules))
    if config.lora is not None:
        find_targets(config)  # its refusal, before anything divides by the rank
    init, axes, adapter = partial(init_params, config), param_axes(config), None
    if config.lora is not None:
        init = partial(_init_with_lora, config)
        axes = join_lora(axes, lora_axes(config))
        adapter = Adapter(partial(init_lora, config), split_lora, join_lora)
    return PolicyModel(
        init=init,
        axes=axes,
        prefill=partial(prefill, config, freeze_vision=freeze_vision),
        sample=partial(sample, config),
        score=partial(score, config, logit_chunk=logit_chunk),
        adapter=adapter,
    )


def _init_with_lora(config: Qwen25VLConfig, key: Key) -> Params:
    base_key, adapter_key = jax.random.split(key)
    return join_lora(init_params(config, base_key), init_lora(config, adapter_key))


def make_sampler(
    config: Qwen25VLConfig,
    *,
    rules: Rules | None = None,
    logit_chunk: int | None = None,
) -> Sampler:
    """The policy for rollouts: parameters cast to `config.dtype` once, laid out anew.

    A rollout reads every parameter for each token; cast and gathered once, they need
    not be cast and gathered for each.

    Args:
        config: The policy's sizes and dtypes.
        rules: Where the parameters lie meanwhile, and the activations; those that fsdp
            divides for the optimiser should lie whole if they fit. None leaves them
            where they are.
        logit_chunk: Of an evaluation that scores answers too, see `make_model`.
    """
    if rules is not None:
        config = replace(config, rules=rule_table(rules))
    model = make_model(config, logit_chunk=logit_chunk)
    place = partial(lay_out, axes=model.axes, rules=config.rules, dtype=config.dtype)
    return Sampler(place, model, exact=config.dtype == config.param_dtype)


def prefill(
    config: Qwen25VLConfig, params: Params, prompt: Prompt, *, freeze_vision: bool
) -> Prefill:
    """A prompt's images and text, computed once for all that follows it.

    `encode_images` and then the `prefill` of `medjax.models.qwen25vl`.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree.
        prompt: M contexts with B / M questions each.
        freeze_vision: Whether the images' features are a constant: no gradient flows
            into the vision tower.
    """
    features = encode_images(config, params, prompt.images)
    if freeze_vision:
        features = jax.lax.stop_gradient(features)
    return prefill_prompt(config, params, prompt, features)


def sample(
    config: Qwen25VLConfig,
    params: Params,
    prefilled: Prefill,
    sample_id: Int[Array, "B"],
    key: Key,
    *,
    group: int,
    decoding: Decoding,
) -> Rollout:
    """Sample `group` completions of each of B prompts; `key` is consumed.

    The prompt's caches are shared by the group, each completion adds a cache of its own
    tokens only. Token t is drawn from softmax(logits / temperature) over the kept
    tokens (`restrict_logits`), with noise of the key, the prompt's id, the place in the
    group and t alone.

    Args:
        config: The policy's sizes; static.
        params: The whole tree; its `text` half is used.
        prefilled: What `prefill` made of the B prompts under the same parameters; B
            may be 0.
        sample_id: An integer that names each prompt and keys its noise; two prompts of
            one id draw the same noise. Any numbers will do.
        key: One typed PRNG key, folded from the step; one of `jax.random.PRNGKey` is
            refused.
        group: Completions of each prompt, a Python integer (static) of 0 or more.
        decoding: What ends a completion and how tokens are drawn; its numbers are
            static: `max_tokens` 0 or more; `temperature` 0 or more and finite, of which
            0 takes the most likely token; `top_k` from 1 to V and `top_p` above 0 and
            up to 1, None of which keeps all tokens.

    Returns:
        Tokens (int32), mask and log-probabilities (nats), [B, group, T] each with T
        the decoding's `max_tokens`. The mask is True up to and including the first stop
        token; after it stand the padding's id, False and 0. A NaN of the parameters or
        the prompt shows as log-probabilities of NaN; its tokens mean nothing.

    Raises:
        ValueError: a key of `jax.random.PRNGKey`, a static argument that is traced or
            out of its range, or shapes that do not fit.
    """
    check_arrays(
        "sample",
        next_position=(prefilled.next_position, "B", int),
        sample_id=(sample_id, "B", int),
    )
    check_key("sample", key=key)
    sizes = {"group": group, "decoding.max_tokens": decoding.max_tokens}
    check_integers("sample", **{name: (size, 0, None) for name, size in sizes.items()})
    rows = prefilled.next_position.shape[0] * group
    start = repeat_rows(prefilled.next_position, group)
    length = decoding.max_tokens
    # made of the prompt's, so that the rows lie on a mesh as the prompts do
    one = jnp.zeros_like(prefilled.question.keys[:, :, None, :1])
    wide = jnp.broadcast_to(one, (*one.shape[:2], group, length, *one.shape[4:]))
    empty = wide.reshape(one.shape[0], rows, length, *one.shape[4:])
    masked = jnp.broadcast_to(jnp.zeros_like(start[:, None], bool), (rows, length))
    cached = (config.rules, None, "batch", None, "kv_heads", None)
    empty = constrain(empty, *cached)
    empty = Cache(empty, empty, masked)

    def step(
        own: Cache, tokens: Int[Array, "R"], index: Int[Array, ""]
    ) -> tuple[Float[Array, "R V"], Cache]:
        position = jnp.broadcast_to((start + index)[:, None, None], (rows, 1, 3))
        hidden, new = extend(
            config,
            params,
            embed_tokens(config, params, tokens[:, None]),
            jnp.ones_like(tokens[:, None], bool),
            position,
            (prefilled.context, prefilled.question, own),
        )
        write = jax.lax.dynamic_update_slice_in_dim
        own = Cache(
            constrain(write(own.keys, new.keys, index, axis=2), *cached),
            constrain(write(own.values, new.values, index, axis=2), *cached),
            write(own.mask, new.mask, index, axis=1),
        )
        return logits(config, params, hidden[:, 0]), own

    first = logits(config, params, prefilled.last)
    samples = sample_loop(
        step,
        empty,
        repeat_rows(first, group),
        rollout_keys(key, sample_id, group),
        max_tokens=length,
        stop_tokens=decoding.ends.stop_tokens,
        pad=decoding.ends.pad,
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
    )
    split = (sample_id.shape[0], group, length)
    return Rollout(*(field.reshape(split) for field in samples))


def score(
    config: Qwen25VLConfig,
    params: Params,
    prefilled: Prefill,
    tokens: Int[Array, "B G T"],
    mask: Bool[Array, "B G T"],
    *,
    logit_chunk: int | None,
) -> tuple[Float[Array, "B G T"], Float[Array, "B G T"]]:
    """Log-probabilities and entropies of completions: `completion_logps`, in nats.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; its `text` half is used.
        prefilled: The B prompts under the same parameters.
        tokens: Ids of G completions of each prompt.
        mask: True up to and including a completion's last token.
        logit_chunk: How many positions' V scores are held at a time, 1 or more; None
            holds all.
    """
    return completion_logps(config, params, prefilled, tokens, mask, chunk=logit_chunk)


def load_weights(
    folder: str | os.PathLike[str],
    shardings: Params,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    tied: bool | None = None,
) -> Params:
    """A Hugging Face folder's parameters, each array placed as the tree says.

    Args:
        folder: A checkpoint of Qwen2.5-VL with its config.json.
        shardings: A jax sharding for each parameter, in the tree of `param_axes`.
        dtype: What will be computed in; it decides nothing about what is read.
        param_dtype: The parameters are cast to it, one tensor at a time.
        tied: Whether the output layer is the embedding; None leaves it to the folder.

    Raises:
        ValueError: the folder holds other arrays than the tree; they are named.
    """
    wanted = flatten_params(shardings).keys()

    def place(config: Qwen25VLConfig) -> Params:
        differ = wanted ^ {tensor.path for tensor in hub_tensors(config)}
        if differ:
            raise ValueError(
                f"{folder} is of another architecture than the config's policy: only "
                f"one of them has {', '.join(sorted(differ))}; name the folder in the "
                "config as well: model=FOLDER"
            )
        return shardings

    loaded = load_qwen25vl(
        folder, sharding_fn=place, dtype=dtype, param_dtype=param_dtype, tied=tied
    )
    return loaded[1]

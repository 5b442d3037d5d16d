"""An exported folder, used by transformers, answers as the policy does here."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.prompting.chat import Style
from medjax.data.prompting.layout import resize_image
from medjax.data.prompting.prompts import Buckets, build_prompt
from medjax.types import Decoding
from tests.oracles import qwen25vl_inputs as oracle
from tests.oracles.hub_answers import answer
from tests.recipes.policy.hub import change, make
from tests.recipes.smoke import draw_params

STYLE = Style("You are a radiologist.", " Answer briefly.", "object")
QUESTION = "Where is the cross, größer als 3 µm?"
NEW = 8  # tokens


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A policy whose folder says other things than Qwen's own, and its export."""
    base = tmp_path_factory.mktemp("exported")
    tiny = make(style=STYLE)
    params = jax.tree.map(lambda x: 0.5 * x, draw_params(tiny.model))
    tiny.save(base / "first", params)
    change(
        base / "first",
        "preprocessor_config.json",
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.2, 0.4, 0.3],
        rescale_factor=1 / 200,
        min_pixels=None,
        max_pixels=None,
        size={"shortest_edge": 30 * 28, "longest_edge": 56 * 42},
    )
    policy = make(style=STYLE, path=str(base / "first"), pixels="folder")
    policy.save(base / "second", params)
    shutil.rmtree(base / "first")
    return policy, params, base / "second"


def ours(policy, params, images):
    """Greedy tokens of a question about images as a run samples them, and in nats."""
    style, tokenizer = STYLE, policy.tokenizer
    prompt = build_prompt(
        tokenizer,
        [[resize_image(image, policy.geometry) for image in images]],
        [[QUESTION]],
        origins=["here"],
        style=style,
        geometry=policy.geometry,
        buckets=Buckets((6,), (96,), (96,), (8,)),
        slots=2,
    )
    prompt = jax.tree.map(jnp.asarray, prompt)
    decoding = Decoding(policy.ends, NEW, temperature=0.0)

    @jax.jit
    def greedy(params):
        prefilled = policy.model.prefill(params, prompt)
        ids = jnp.zeros(1, jnp.int32)
        key = jax.random.key(0)
        return policy.model.sample(
            params, prefilled, ids, key, group=1, decoding=decoding
        )

    with jax.default_matmul_precision("highest"):
        found = greedy(params)
    tokens, mask, logps = (np.asarray(field)[0, 0] for field in found[:3])
    return tokens[mask], logps[mask]


@pytest.mark.parametrize("sizes", [[(28, 70)], [(60, 31), (17, 90)]])
def test_transformers_answers_as_we_do(sizes, exported):
    policy, params, folder = exported
    images = [oracle.picture(*size, seed=n) for n, size in enumerate(sizes)]
    tokens, logps = ours(policy, params, images)
    found, expected = answer(folder, images, QUESTION + STYLE.suffix, most=NEW)
    np.testing.assert_array_equal(tokens, found)
    np.testing.assert_allclose(logps, expected, atol=1e-4)
    _, other = ours(policy, params, [255 - image for image in images])
    assert np.abs(logps[0] - other[0]) > 1e-3  # the images bear on the answer

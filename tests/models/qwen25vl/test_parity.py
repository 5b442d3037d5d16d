"""The policy against transformers' own model, live (needs torch)."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from medjax.models.qwen25vl.export import save_qwen25vl
from medjax.models.qwen25vl.weights import load_qwen25vl
from tests.models.qwen25vl.measure import measure, relative_errors
from tests.oracles import qwen25vl_inputs as inputs

REPO = pathlib.Path(__file__).resolve().parents[3]
# Two float32 programs that sum in another order: measured 9e-6 for logits up to 4.5.
TOLERANCE = 1e-4

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


def run_oracle(*args):
    """In a process of its own: torch's threads and warnings stay out of this one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.oracles.qwen25vl_torch", *map(str, args)],
        cwd=REPO,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def oracles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracle")
    run_oracle("make", folder, "--patch", 14)
    return folder


@pytest.fixture(scope="module", params=["untied", "tied"])
def oracle(request, oracles, tmp_path_factory):
    """The oracle's folder, its arrays, and ours from its weights."""
    folder = oracles / request.param
    config, params = load_qwen25vl(folder)
    assert config.tied == (request.param == "tied")
    theirs = dict(np.load(folder / "oracle.npz"))
    ours = measure(
        config,
        params,
        inputs.make_case(14),
        tmp_path_factory.mktemp(request.param) / "grads",
        new_tokens=theirs["greedy_ids"].shape[1],
    )
    return folder, config, params, theirs, ours


def rows(theirs, name):
    """Per row of the left-padded batch, its unpadded part."""
    keep = theirs["attention_mask"].astype(bool)
    return [x[k] for x, k in zip(theirs[name], keep, strict=True)]


def test_inputs_are_the_same(oracle):
    theirs, case = oracle[3], inputs.make_case(14)
    patches = [
        inputs.patch_rows(image, grid, case.patch)
        for image, grid in zip(case.images, case.grids, strict=True)
    ]
    np.testing.assert_array_equal(
        theirs["image_grid_thw"], [(1, *grid) for grid in case.grids]
    )
    np.testing.assert_allclose(
        np.concatenate(patches), theirs["pixel_values"], atol=1e-6
    )


def test_positions(oracle):
    theirs, ours = oracle[3:]
    where = {**theirs, "position_ids": np.moveaxis(theirs["position_ids"], 0, -1)}
    for mine, other in zip(ours["positions"], rows(where, "position_ids"), strict=True):
        np.testing.assert_array_equal(mine, other)
    following = theirs["attention_mask"].sum(1) + theirs["rope_deltas"][:, 0]
    np.testing.assert_array_equal(ours["next_position"], following)


def test_vision_features(oracle):
    theirs, ours = oracle[3:]
    np.testing.assert_allclose(
        ours["image_features"], theirs["image_features"], rtol=0, atol=TOLERANCE
    )


def test_logits_and_loss(oracle):
    theirs, ours = oracle[3:]
    for mine, other in zip(ours["logits"], rows(theirs, "logits"), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=TOLERANCE)


def test_gradients(oracle):
    folder, *_, ours = oracle
    errors = relative_errors(ours["grads"], load_file(folder / "grads.safetensors"))
    assert max(errors.values()) < TOLERANCE, errors


def test_greedy_tokens(oracle):
    theirs, ours = oracle[3:]
    assert theirs["greedy_ids"].shape == (4, 12)
    np.testing.assert_array_equal(ours["greedy_ids"], theirs["greedy_ids"])


def test_transformers_reads_what_we_write(oracle, tmp_path):
    folder, config, params, theirs, _ = oracle
    layouts = ("published", "nested")
    for layout in layouts:
        save_qwen25vl(
            tmp_path / layout,
            config,
            params,
            token_ids=inputs.TOKEN_IDS,
            layout=layout,
            max_shard_bytes=100_000,
        )
    run_oracle("read", folder / "oracle.npz", *(tmp_path / name for name in layouts))
    for layout in layouts:
        logits = np.load(tmp_path / layout / "logits.npy")
        np.testing.assert_array_equal(logits, theirs["logits"])

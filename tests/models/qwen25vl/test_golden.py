"""The policy against a stored digest of the PyTorch oracle; needs no torch.

`tests/golden/make_qwen25vl.py` says what is stored and how it was made.
"""

import pathlib

import numpy as np
import pytest

from medjax.data.prompting import layout
from medjax.models.qwen25vl.weights import load_qwen25vl
from tests.models.qwen25vl.measure import (
    digest,
    measure,
    random_tensors,
    write_folder,
)
from tests.oracles import qwen25vl_inputs as inputs

PATCH = 4
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden" / "qwen25vl.npz"
# Two float32 programs that sum in another order: measured 5e-6 for logits up to 4.3.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def case(golden):
    """The stored pictures and tokens, not remade: generators and libm may change."""
    ends = np.cumsum(golden["lengths"])
    rows = np.split(golden["tokens"].astype(int), ends[:-1])
    return inputs.Case(
        PATCH,
        [golden[f"image_{i}"] for i in range(len(golden["grids"]))],
        [tuple(grid) for grid in golden["grids"].tolist()],
        [row.tolist() for row in rows],
        golden["splits"].tolist(),
    )


@pytest.fixture(scope="module", params=["untied", "tied"])
def pair(request, golden, case, tmp_path_factory):
    """Stored arrays of one variant, and ours."""
    tied = request.param == "tied"
    shared = {k.removeprefix("untied/"): v for k, v in golden.items()}
    stored = shared | {
        k.removeprefix(f"{request.param}/"): v for k, v in golden.items()
    }
    content, tensors = random_tensors(patch=PATCH, tied=tied)
    sums = [np.sum(tensors[n], dtype=np.float64) for n in stored["names"]]
    np.testing.assert_allclose(
        sums,
        stored["weights"],
        rtol=1e-6,
        atol=1e-4,
        err_msg="NumPy's generator now makes other weights: run make_qwen25vl.py again",
    )
    folder = tmp_path_factory.mktemp(request.param)
    config, params = load_qwen25vl(write_folder(folder / "hub", content, tensors))
    ours = measure(config, params, case, folder / "grads", new_tokens=12)
    return stored, ours


def test_resized_picture(golden, case):
    found = inputs.patch_rows(case.images[2], case.grids[2], PATCH)
    np.testing.assert_allclose(found, golden["untied/pixel_values"], atol=1e-6)


def test_host_layout_is_the_model_s(case):
    """What `data` makes of pictures and rows is what this parity was measured with.

    Where padding stands inside a cut window is free, so features are compared.
    """
    geometry = layout.Geometry(
        patch=PATCH, merge=2, temporal=2, window=32, min_pixels=64, max_pixels=16384
    )
    expected, places = inputs.pack_images(case)
    length = expected.mask.shape[2]
    shown = [layout.resize_image(image, geometry) for image in case.images]
    slots = [(b, k) for b, sizes in enumerate(inputs.ROWS) for k in range(len(sizes))]
    rows = [
        [shown[i] for i, slot in enumerate(slots) if slot[0] == b] for b in range(4)
    ]
    found = layout.pack_images(rows, geometry, windows=length // 64, slots=2)
    np.testing.assert_array_equal(found.mask.sum(2), expected.mask.sum(2))
    for (b, k), image, place in zip(slots, shown, places, strict=True):
        index = layout.feature_index(image.shape[:2], geometry)
        theirs = place % (length // 4)
        np.testing.assert_array_equal(index // 16, theirs // 16)  # same windows
        for mine, other in zip(found, expected, strict=True):
            cells = mine[b, k].reshape(length // 4, 4, -1)[index]
            others = other[b, k].reshape(length // 4, 4, -1)[theirs]
            np.testing.assert_allclose(cells, others, rtol=0, atol=1e-6)


def test_host_positions_are_the_model_s(case):
    grids = list(case.grids)
    for row, sizes in zip(case.rows, inputs.ROWS, strict=True):
        mine = [grids.pop(0) for _ in sizes]
        cells = [(rows // 2, columns // 2) for rows, columns in mine]
        where, following = layout.mrope_positions(np.array(row), cells, inputs.IMAGE)
        expected, expected_following = inputs.positions(row, mine)
        np.testing.assert_array_equal(where, expected)
        assert following == expected_following


def test_positions(pair):
    stored, ours = pair
    np.testing.assert_array_equal(
        np.concatenate(ours["positions"]), stored["position_ids"]
    )
    np.testing.assert_array_equal(ours["next_position"], stored["next_position"])


def test_vision_features(pair):
    stored, ours = pair
    np.testing.assert_allclose(
        ours["image_features"][::2], stored["image_features"], rtol=0, atol=TOLERANCE
    )


def test_logits_and_loss(pair):
    stored, ours = pair
    last = stored["logits"].shape[1]
    found = np.stack([row[-last:] for row in ours["logits"]])
    np.testing.assert_allclose(found, stored["logits"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(ours["loss"], stored["loss"], rtol=TOLERANCE)


def test_gradients(pair):
    stored, ours = pair
    found = digest(ours["grads"])
    assert sorted(found) == stored["names"].tolist()
    for name, expected in zip(stored["names"], stored["digests"], strict=True):
        error = np.abs(found[name] - expected).max() / expected[0]
        assert error < TOLERANCE, name
    for name in stored:
        if name.startswith("grad/"):
            mine = ours["grads"][name.removeprefix("grad/")]
            error = np.abs(mine - stored[name]).max() / np.abs(stored[name]).max()
            assert error < TOLERANCE, name


def test_greedy_tokens(pair):
    stored, ours = pair
    np.testing.assert_array_equal(ours["greedy_ids"], stored["greedy_ids"])

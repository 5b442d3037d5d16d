"""What transformers alone answers is what medjax answers, picture by picture."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from medjax.recipes.boxes.replies import box_reader
from medjax.recipes.policy.predictor import open_predictor
from medjax.recipes.policy.qwen25vl_folder import seal_folder
from tests.recipes.policy.hub import STYLE, make
from tests.recipes.smoke import draw_params

REPO = pathlib.Path(__file__).resolve().parents[1]
QUESTIONS = ("Where is the disc?", "Find the cross.")
MOST = 6  # tokens of an answer


def load(name):
    spec = importlib.util.spec_from_file_location(name, REPO / f"benchmarks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peer = load("peer_answers")


def write(folder, *, ramps):
    """A policy's folder that says how its pictures were shown."""
    policy = make()
    params = jax.tree.map(lambda x: 0.5 * x, draw_params(policy.model))
    policy.save(folder, params)
    seal_folder(folder, policy.geometry, ramps=ramps)
    return folder


def pictures(place, *sizes):
    place.mkdir()
    rng = np.random.default_rng(0)
    for n, size in enumerate(sizes):
        grey = rng.integers(0, 256, size, np.uint8)
        Image.fromarray(np.stack([grey] * 3, -1)).save(place / f"{n}.png")
    return place


def asked(tmp_path, count):
    lines = [
        {"image": f"{n}.png", "query": query}
        for n in range(count)
        for query in QUESTIONS
    ]
    path = tmp_path / "ask.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return path, lines


def run(folder, images, ask, answers):
    given = [f"--images={images}", f"--ask={ask}", f"--answers={answers}"]
    peer.main([str(folder), *given, f"--most={MOST}"])
    return [json.loads(line) for line in answers.read_text().splitlines()]


@pytest.mark.parametrize("ramps", [False, True])
def test_its_texts_are_those_of_medjax(tmp_path, ramps):
    pytest.importorskip("torch")
    folder = write(tmp_path / "policy", ramps=ramps)
    images = pictures(tmp_path / "images", (28, 42), (42, 42))
    ask, lines = asked(tmp_path, 2)
    found = run(folder, images, ask, tmp_path / "answers.jsonl")
    shown = [np.asarray(Image.open(images / f"{n}.png")) for n in range(2)]
    sizes = [image.shape[:2] for image in shown]
    predictor, params = open_predictor(
        *(folder, STYLE, box_reader(STYLE)),
        texts=QUESTIONS,
        sizes=sizes,
        max_tokens=MOST,
    )
    batch = predictor.encode(shown, [list(QUESTIONS)] * 2)
    with jax.default_matmul_precision("highest"):
        answers = jax.jit(predictor.answer)(params, batch, jax.random.key(0))
    twice = [size for size in sizes for _ in QUESTIONS]
    expected = [reply.text for reply in predictor.read(answers, twice)]
    assert [line.pop("text") for line in found] == expected
    assert found == [line | {"frame": "resized"} for line in lines]


def test_ramps_that_would_be_resized_are_refused(tmp_path):
    pytest.importorskip("torch")
    folder = write(tmp_path / "policy", ramps=True)
    images = pictures(tmp_path / "images", (40, 42))
    ask, _ = asked(tmp_path, 1)
    with pytest.raises(ValueError, match=r"\(42, 40\) would be shown as \(42, 42\)"):
        run(folder, images, ask, tmp_path / "answers.jsonl")


def test_the_made_folder_is_coco_that_asks_about_its_test(tmp_path):
    shapes = load("shapes_folder")
    shapes.PARTS = {"train": ("train", 2), "test": ("val", 2), "new": ("test", 1)}
    shapes.main(tmp_path)
    document = json.loads((tmp_path / "test/_annotations.coco.json").read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    files = {one["id"]: f"test/{one['file_name']}" for one in document["images"]}
    boxed = [
        (files[one["image_id"]], f"Find the {names[one['category_id']]}.")
        for one in document["annotations"]
    ]
    lines = (tmp_path / "test/questions.jsonl").read_text().splitlines()
    found = [tuple(json.loads(line).values()) for line in lines]
    assert found == boxed and len(boxed) == 8
    # every row and column of a box has a pixel far from the ground's grey
    one = document["annotations"][0]
    left, top, width, height = map(int, one["bbox"])
    grey = np.asarray(Image.open(tmp_path / files[one["image_id"]]), float)
    inside = grey[top : top + height, left : left + width, 0]
    assert (
        np.abs(inside - 128).max(0).min() > 60
        and np.abs(inside - 128).max(1).min() > 60
    )

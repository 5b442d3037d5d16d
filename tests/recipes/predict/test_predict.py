"""Policies asked about pictures: lines, boxes in pixels and mm, errors, going on.

Every token of the policy's vocabulary writes a whole answer with a box of its own, so
that a random policy's answers can be read.
"""

import json
import pathlib
import re

import jax
import nibabel
import numpy as np
import pytest
from PIL import Image

from configs.common import get_mesh, get_predict, get_rules
from medjax.data.asking.pictures import find_pictures
from medjax.data.asking.questions import read_questions
from medjax.data.lists.reading import PLAIN
from medjax.data.prompting.layout import shown_size
from medjax.recipes import vrft_aug as recipe
from medjax.recipes.boxes.replies import box_reader
from medjax.recipes.classes.data import LabelData, LabelPrompt
from medjax.recipes.classes.predict import check_same_task, task_questions
from medjax.recipes.policy.identity import identity
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.predicting import Asking, Use, predict_all
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.policy.using import PredictOptions, choose_decoding
from medjax.recipes.predict import medloc, vrft_aug
from medjax.recipes.sections import read_section
from medjax.rl.text.boxes import build_tables
from medjax.sharding import make_mesh
from tests.data.images.dicom_files import MARKERS, write
from tests.recipes.policy.hub import ANSWERS, SECTION, STYLE, TEXTS, make
from tests.recipes.smoke import draw_params, sections
from tests.recipes.smoke_labels import label_sections
from tests.tiny import box_of

REPO = pathlib.Path(__file__).resolve().parents[3]
RNG = np.random.default_rng(0)
ASK = "Where is the disc?"
OPTIONS = read_section(
    PredictOptions, "predict", get_predict() | {"top_k": None, "top_p": None}
)._replace(temperature=None, max_tokens=3, batch=4, overlays=2)
EVALUATION = Evaluation(0, 16, 4, 0, 0, 0, 0.95)


@pytest.fixture(scope="module")
def where():
    mesh = make_mesh(get_mesh().to_dict(), jax.devices()[:1])
    return {"mesh": mesh, "rules": get_rules().to_dict()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "policy"
    tiny = make()
    params = jax.tree.map(lambda x: 0.5 * x, draw_params(tiny.model))
    tiny.save(path, params)
    return path


@pytest.fixture(scope="module")
def use(folder):
    _, finish = open_policy(SECTION | {"path": str(folder)})
    policy = finish(TEXTS, ANSWERS, style=STYLE)
    texts = [
        f'<think>x</think><answer>{{"bbox_2d": {box_of(n)}}}</answer>'.encode()
        for n in range(len(policy.tables.vocab_length))
    ]
    policy = policy._replace(tables=build_tables(texts))
    return Use(
        policy, STYLE, box_reader(STYLE), False, False, folder, "grpo", lambda _: None
    )


def save_pictures(folder):
    folder.mkdir()
    for name, size in (("a.png", (30, 60)), ("b.png", (50, 40)), ("c.jpg", (28, 28))):
        Image.fromarray(RNG.integers(0, 255, size, np.uint8)).save(folder / name)
    grey = RNG.integers(0, 900, (40, 40)).astype(np.uint16)
    write(folder / "d.dcm", grey, PixelSpacing=[0.5, 0.5])
    volume = RNG.integers(0, 900, (30, 40, 2)).astype(np.int16)
    nibabel.save(
        nibabel.Nifti1Image(volume, np.diag([3, 3, 5, 1])), folder / "e.nii.gz"
    )
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n????")
    return folder


def asking(use, source, ask=ASK, **changes):
    asked, faults = find_pictures(
        str(source), read_questions(ask), plane="axial", reading=PLAIN, identify=False
    )
    options = OPTIONS._replace(**changes)
    decoding = choose_decoding(use.policy, options, folder=True, max_tokens=3)
    return Asking(asked, faults, PLAIN, decoding, options, EVALUATION)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_of_everything_is_answered_and_gone_on_with(
    use, where, tmp_path, capfd
):
    source = save_pictures(tmp_path / "in")
    place = {"workdir": tmp_path / "run", **where}
    doubt, *_ = predict_all(use, asking(use, source), **place)
    assert "1 pictures could not be read" in doubt and "broken.png" in doubt
    out = tmp_path / "run/predict"
    found = rows(out / "answers.jsonl")
    image = {str(row["image"]): row for row in found}
    slices = [{"path": "e.nii.gz", "frame": n, "plane": "axial"} for n in range(2)]
    assert list(image) == ["a.png", "b.png", "c.jpg", "d.dcm", *map(str, slices)]
    boxes = {str(box_of(n)): n for n in range(len(use.policy.tables.vocab_length))}
    for row in found:
        assert row["parsed"] and row["query"] == ASK and row["frame"] == "original"
        assert row["well_formed"] is False  # several answers, one a token
        height, width = row["size"]
        shown = shown_size((height, width), use.policy.geometry)
        scale = np.array([width / shown[1], height / shown[0]] * 2)
        ((box,), (score,)) = row["boxes"], row["confidence"]
        assert str(np.round(np.array(box) / scale).astype(int).tolist()) in boxes
        assert 0 < score <= 1
    assert image["a.png"]["size"] == [30, 60] and image["a.png"]["boxes_mm"] is None
    half = np.array(image["d.dcm"]["boxes"]) * 0.5
    np.testing.assert_allclose(image["d.dcm"]["boxes_mm"], half, atol=2e-3)
    first = image[str(slices[0])]
    np.testing.assert_allclose(
        first["boxes_mm"], np.multiply(first["boxes"], 3), atol=5e-3
    )
    assert [row["image"] for row in rows(out / "errors.jsonl")] == ["broken.png"]
    drawn = {p.name: p.read_bytes() for p in (out / "overlays").iterdir()}
    assert [name.split(".")[0] for name in sorted(drawn)] == ["a", "b"]
    err = capfd.readouterr().err
    assert "batch shape 2" not in err and "ETA" in err
    text = "".join(
        p.read_text("utf-8", "replace") for p in out.rglob("*") if p.is_file()
    )
    assert str(tmp_path) not in text and not any(mark in text for mark in MARKERS)

    # killed in its last line; goes on with what is not there, and asks nothing again
    whole = (out / "answers.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (out / "answers.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:30])
    predict_all(use, asking(use, source), **place)
    assert (out / "answers.jsonl").read_bytes() == whole
    again = {p.name: p.read_bytes() for p in (out / "overlays").iterdir()}
    assert again == drawn  # the first two, and no more of what was asked now
    Image.fromarray(RNG.integers(0, 255, (30, 30), np.uint8)).save(source / "z.png")
    (source / "broken.png").unlink()
    doubts = predict_all(use, asking(use, source), **place)
    assert not any("could not be read" in line for line in doubts)
    again = (out / "answers.jsonl").read_bytes()
    assert (
        again.startswith(whole) and rows(out / "answers.jsonl")[-1]["image"] == "z.png"
    )
    assert not (out / "errors.jsonl").exists()

    for changes, piece in (
        ({"ask": "Find the cross."}, "7 answers to what is not asked now"),
        ({"temperature": 0.5}, "decoding.temperature"),
    ):
        with pytest.raises(ValueError, match=piece):
            predict_all(use, asking(use, source, **changes), **place)
    other = jax.tree.map(lambda x: 1.01 * x, draw_params(use.policy.model))
    changed = use._replace(policy=use.policy._replace(load=lambda _: other))
    with pytest.raises(ValueError, match="model.fingerprint"):
        predict_all(changed, asking(use, source), **place)
    assert (out / "answers.jsonl").read_bytes() == again


def test_boxes_in_thousandths_are_told_of(use, where, tmp_path):
    text = b'<think>x</think><answer>{"bbox_2d": [100, 100, 900, 900]}</answer>'
    tables = build_tables([text] * len(use.policy.tables.vocab_length))
    strange = use._replace(policy=use.policy._replace(tables=tables))
    Image.fromarray(RNG.integers(0, 255, (30, 60), np.uint8)).save(tmp_path / "a.png")
    for _ in range(2):  # the second call asks nothing, and finds the same doubtful
        (doubt,) = predict_all(
            strange, asking(use, tmp_path / "a.png"), workdir=tmp_path / "run", **where
        )
        assert "boxes of 1 of 1 answers leave their pictures" in doubt
        assert "thousandths" in doubt
    (row,) = rows(tmp_path / "run/predict/answers.jsonl")
    assert row["parsed"] and "a box leaves the picture" in row["why"]


def test_nothing_that_can_be_read_is_an_error(use, where, tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none of the pictures could be read\n.*a.png"):
        predict_all(use, asking(use, tmp_path), workdir=tmp_path / "run", **where)


def test_the_code_of_the_page_runs(folder, tmp_path, monkeypatch, capsys):
    page = (REPO / "docs/predict.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "pictures").mkdir()
    for name, size in (("a.png", (30, 60)), ("b.png", (50, 40))):
        grey = RNG.integers(0, 255, size, np.uint8)
        Image.fromarray(grey).save(tmp_path / "pictures" / name)
    (tmp_path / "policy").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "predict.md", "exec"), names)
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("a.png ") and second.startswith("b.png ")
    replies = names["predictor"].read(names["answers"], names["sizes"])
    assert len(replies) == 2 and all(r.boxes.shape == (0, 4) for r in replies)


def given(found, where, workdir, **more):
    predict = OPTIONS._asdict() | {"overlays": 0}
    return {"seed": 0, "workdir": workdir, "predict": predict} | where | found | more


def test_the_entry_uses_a_folder_without_the_data_of_its_training(
    folder, where, tmp_path
):
    Image.fromarray(RNG.integers(0, 255, (30, 60), np.uint8)).save(tmp_path / "a.png")
    found = sections(data__source="not/there", policy__max_pixels=10**6)
    how = given(found, where, tmp_path / "run", ask=ASK, checkpoint=str(folder))
    (doubt,) = medloc.predict(str(tmp_path / "a.png"), **how)
    assert "1 of 1 answers could not be read" in doubt
    assert medloc.predict(str(tmp_path / "a.png"), **how) == [doubt]  # all was there
    (row,) = rows(tmp_path / "run/predict/answers.jsonl")
    assert row["boxes"] is None and "no <answer>" in row["why"] and row["text"]
    stored = json.loads((tmp_path / "run/predict/predict.json").read_text())
    # as in its training, whatever the config says
    assert stored["images"]["max_pixels"] == SECTION["max_pixels"]
    # the next patient's picture, which its scanner calls as the last one's
    (tmp_path / "next").mkdir()
    other = Image.fromarray(RNG.integers(0, 255, (30, 60), np.uint8))
    other.save(tmp_path / "next/a.png")
    with pytest.raises(ValueError, match=r"other pictures: 1 files .* first is a\.png"):
        medloc.predict(str(tmp_path / "next/a.png"), **how)
    assert rows(tmp_path / "run/predict/answers.jsonl") == [row]


@pytest.mark.parametrize(
    "more, piece",
    [
        ({"ask": None}, "expected --ask"),
        ({"checkpoint": "nowhere"}, "no checkpoint at nowhere"),
        ({"checkpoint": None}, "holds no run"),
    ],
)
def test_what_is_missing_is_named(where, tmp_path, more, piece):
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(tmp_path / "a.png")
    how = given(sections(), where, tmp_path / "run", ask=ASK, checkpoint="x")
    with pytest.raises((ValueError, FileNotFoundError), match=piece):
        medloc.predict(str(tmp_path / "a.png"), **how | more)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A run about drawn shapes, and its policy's folder."""
    found = label_sections("policy=off,prompt=off,recite=none")
    folder = tmp_path_factory.mktemp("shapes") / "policy"
    run = recipe.open_run(
        read_section(LabelData, "data", found["data"]),
        read_section(LabelPrompt, "prompt", found["prompt"]),
        recipe.read_localisation(found["localisation"]),
        read_section(Evaluation, "evaluation", found["evaluation"]),
        policy=found["policy"],
        seed=0,
        workdir=folder.parent,
    ).run
    run.setup.policy.save(folder, draw_params(run.setup.policy.model))
    return found, run, folder


def test_classes_are_asked_their_task(shapes, where, tmp_path):
    found, run, folder = shapes
    Image.fromarray(RNG.integers(0, 255, (40, 40), np.uint8)).save(tmp_path / "a.png")
    how = given(found, where, tmp_path / "run", checkpoint=str(folder))
    with pytest.raises(ValueError, match="--ask: the question is the task's"):
        vrft_aug.predict(str(tmp_path / "a.png"), ask=ASK, **how)
    vrft_aug.predict(str(tmp_path / "a.png"), ask=None, **how)
    answers = rows(tmp_path / "run/predict/answers.jsonl")
    assert [row["query"] for row in answers] == list(
        task_questions(run, plane="axial").everywhere
    )
    classes = run.source.wording.task.classes
    for row in answers:
        assert row["parsed"] == (row["label"] in classes) == (not row["why"])
        assert "boxes" not in row and row["size"] == [40, 40]


def test_a_checkpoint_of_other_classes_or_words_is_refused(shapes):
    _, run, _ = shapes
    ours = identity(run.setup, {})
    check_same_task(run, ours)
    for key, piece in (
        ("classes", "other classes"),
        ("reasons", "differ in .*reasons"),
    ):
        words = ours["data"]["words"] | {key: "another"}
        stored = ours | {"data": ours["data"] | {"words": words}}
        with pytest.raises(ValueError, match=piece):
            check_same_task(run, stored)
    with pytest.raises(ValueError, match="trained to answer by one box a question"):
        check_same_task(run, ours | {"prompt": ours["prompt"] | {"answer": "list"}})

"""--mode=check of boxes and classes: what it writes, stops at, and doubts."""

import json

import numpy as np
import pytest
from PIL import Image

from medjax.recipes import medloc, vrft_aug
from medjax.runtime.stages import doubts as stage_doubts
from tests.recipes import smoke, smoke_labels
from tests.recipes.pictures import (
    box_lines,
    save_scenes,
    scene,
    write_boxes,
    write_labels,
)

COUNT = 16


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def check_boxes(path, workdir, **changes):
    sections = smoke.sections(f"data={path}", **changes)
    return medloc.check(seed=0, workdir=workdir, **sections)


def check_labels(path, workdir, **changes):
    arg = f"policy=off,prompt=off,recite=none,data={path}"
    return vrft_aug.check(
        seed=0, workdir=workdir, **smoke_labels.label_sections(arg, **changes)
    )


def read(workdir, name="check"):
    return json.loads((workdir / f"{name}.json").read_text("utf-8"))


def found(document, weight):
    return {x["what"]: x["lines"] for x in document["found"] if x["weight"] == weight}


def test_a_reward_that_does_not_differ_is_a_doubt(folder, tmp_path):
    path = write_boxes(folder, box_lines(save_scenes(folder, COUNT)))
    file = tmp_path / "mine.py"
    file.write_text("def same(completions, **_):\n    return [1] * len(completions)\n")
    places = {"train__grpo__python_rewards": {"same": f"{file}:same"}}
    (line,) = check_boxes(path, tmp_path, **places)
    assert "'same' gives 1 to each of" in line
    file.write_text("def same(completions):\n    return 1\n")
    with pytest.raises(ValueError, match="'same' does not take what it is given"):
        check_boxes(path, tmp_path, **places)


def test_boxes_that_are_well(folder, tmp_path):
    boxes = save_scenes(folder, COUNT)
    path = write_boxes(folder, box_lines(boxes, patient=lambda n: f"p{n // 2}"))
    assert check_boxes(path, tmp_path) == []
    document = read(tmp_path)
    assert document["found"] == []
    parts = document["parts"]
    assert parts["train"]["pictures"] + parts["test"]["pictures"] == COUNT
    assert parts["train"]["groups"] + parts["test"]["groups"] == COUNT // 2
    assert document["labels"]["train"] == {"square": parts["train"]["rows"]}
    assert sum(row["pictures"] for row in document["pictures"]) == COUNT
    assert document["pictures"][0]["kind"] == "png, grey"
    # the statistics of the boxes, by hand
    areas = [(x2 - x1) * (y2 - y1) / (60 * 56) for x1, y1, x2, y2 in boxes]
    statistics = document["boxes"]
    assert statistics["boxes"] == COUNT
    np.testing.assert_allclose(
        statistics["share of the picture"]["median"], np.median(areas), rtol=1e-6
    )
    assert statistics["boxes a question"]["max"] == 1
    cover = np.array(statistics["cover"])
    assert cover.shape == (16, 16) and 0 < cover.max() <= 1
    np.testing.assert_allclose(cover.mean(), np.mean(areas), atol=0.05)
    # tokens: every question is in the bucket, and none above it
    tokens = document["tokens"]
    for name in ("context", "question", "answer"):
        ((size, count),) = tokens[name]["buckets"].items()
        assert count == COUNT and tokens[name]["max"] <= int(size)
        assert tokens[name]["min"] <= tokens[name]["median"] <= tokens[name]["max"]
    assert tokens["all"]["max"] >= tokens["image"]["min"] + tokens["answer"]["min"]
    for name in ("check.html", "check_examples.png", "check_boxes.png"):
        assert (tmp_path / name).stat().st_size > 1000


def test_examples_are_what_the_policy_is_given(folder, tmp_path):
    """The picture back from its patches, and the box back from the answer's tokens."""
    boxes = save_scenes(folder, COUNT)
    path = write_boxes(folder, box_lines(boxes))
    sections = smoke.sections(f"data={path}")
    setup = smoke.setup_of(sections)
    from medjax.data.prompting.layout import resize_image
    from medjax.recipes.boxes.check import read_boxes
    from medjax.recipes.policy.examples import draw_examples

    examples = draw_examples(setup, count=10)
    assert len({example.origin for example in examples}) == len(examples) == 9
    assert {example.part for example in examples} == {"train", "test"}
    for example in examples:
        n = int(example.origin.rpartition(" ")[2]) - 1
        grey = np.asarray(Image.open(folder / "images" / f"{n}.png").convert("RGB"))
        shown = resize_image(grey, setup.policy.geometry)
        np.testing.assert_array_equal(example.image, shown)
        (box,) = read_boxes(example.answer)
        scale = np.array([shown.shape[1] / 56, shown.shape[0] / 60] * 2)
        np.testing.assert_allclose(box, np.array(boxes[n]) * scale, atol=0.51)
        assert "Find the square." in example.prompt
    assert check_boxes(path, tmp_path) == []
    assert len(read(tmp_path)["examples"]) == 9


def test_ramps_are_shown_where_they_are_in_use(folder):
    boxes = save_scenes(folder, 4)
    path = write_boxes(folder, box_lines(boxes))
    setup = smoke.setup_of(smoke.sections(f"data={path}", data__ramps=True))
    from medjax.recipes.policy.examples import draw_examples

    (image, *_) = [example.image for example in draw_examples(setup, count=2)]
    assert (np.diff(image[0, :, 1].astype(int)) > 0).all()


def test_classes_that_are_well(folder, tmp_path):
    save_scenes(folder, COUNT)
    rows = [f"images/{n}.png,{'ab'[n % 2]},p{n // 2}" for n in range(COUNT)]
    assert check_labels(write_labels(folder, rows), tmp_path) == []
    document = read(tmp_path)
    (note,) = document["found"]  # a patient may have several
    assert note["weight"] == "note" and "may be right" in note["what"]
    labels = document["labels"]
    assert sum(labels["train"].values()) + sum(labels["test"].values()) == COUNT
    assert len(document["examples"]) >= 6
    assert not (tmp_path / "check_boxes.png").exists()


def test_a_lesion_with_two_diagnoses_is_named(folder, tmp_path):
    save_scenes(folder, COUNT)
    rows = [f"images/{n}.png,{'ab'[n % 2]},l{n // 2 if n < 2 else n}" for n in range(8)]
    path = write_labels(folder, rows, header="image,label,lesion_id")
    (doubt,) = check_labels(path, tmp_path)
    assert doubt.startswith("lesions with several labels: 1\n    lesion_id 'l0': ")
    where = {"seed": 0, "workdir": tmp_path}
    arg = f"policy=off,prompt=off,recite=none,data={path}"
    chain = vrft_aug.stages(**where, **smoke_labels.label_sections(arg))
    assert stage_doubts(chain, **where) == [doubt]
    (line,) = found(read(tmp_path), "doubt")["lesions with several labels"]
    assert line.startswith("lesion_id '...': labels.csv, line 2 (a)")  # its name hidden


def test_built_in_data_is_shown_too(tmp_path):
    assert medloc.check(seed=0, workdir=tmp_path, **smoke.sections()) == []
    document = read(tmp_path)
    assert document["source"] == "synthetic"
    assert document["boxes"]["boxes"] > 200
    assert len(document["examples"]) == 10


def test_a_localisation_is_checked_too(tmp_path):
    sections = smoke_labels.label_sections("task=shapes")
    assert vrft_aug.check(seed=0, workdir=tmp_path, **sections) == []
    assert read(tmp_path, "boxes_check")["source"] == "synthetic"
    assert read(tmp_path)["source"] == "shapes"
    assert (tmp_path / "boxes_check_examples.png").exists()


def test_what_is_wrong_is_collected_and_stops(folder, tmp_path):
    boxes = save_scenes(folder, COUNT)
    lines = box_lines(boxes, patient=lambda n: f"p{n}")
    lines[3]["box"] = [10, 10, 900, 40]
    lines[5]["patient"] = None
    lines[7]["image"] = "images/gone.png"
    whole = (folder / "images" / "9.png").read_bytes()
    (folder / "images" / "9.png").write_bytes(whole[: len(whole) // 2])
    path = write_boxes(folder, lines)
    with pytest.raises(ValueError, match="would stop a run") as told:
        check_boxes(path, tmp_path)
    for number in (4, 6, 8, 10):
        assert f"boxes.jsonl, line {number}:" in str(told.value)
    lines = found(read(tmp_path), "stop")["lines that cannot be used"]
    assert len(lines) == 4
    # where they may be dropped they are doubts, and are not trained on
    (doubt,) = check_boxes(path, tmp_path, data__on_bad="drop")
    assert doubt.startswith("lines that cannot be used: 4")
    assert found(read(tmp_path), "stop") == {}


@pytest.mark.parametrize("spoilt", ["all lines", "the parts"])
def test_a_list_that_is_spoilt_as_a_whole_still_has_its_wrong_lines_named(
    folder, tmp_path, spoilt
):
    lines = box_lines(save_scenes(folder, COUNT), patient=lambda n: f"p{n}")
    lines[3]["box"] = [10, 10, 900, 40]
    lines[5]["patient"] = None
    for line in lines if spoilt == "the parts" else ():
        line["split"] = "test"
    path = write_boxes(folder, lines if spoilt == "the parts" else lines[3:6:2])
    with pytest.raises(ValueError, match="would stop a run"):
        check_boxes(path, tmp_path)
    stops = found(read(tmp_path), "stop")
    (whole,) = stops["the data cannot be used"]
    assert ("no lines" if spoilt == "all lines" else "no line is in train") in whole
    wrong = stops["lines that cannot be used"]
    assert len(wrong) == 2 and "patient is null" in "".join(wrong)


def test_labels_whose_parts_are_spoilt_still_have_their_wrong_lines_named(
    folder, tmp_path
):
    save_scenes(folder, COUNT)
    rows = [(f"images/{n}.png", "ab"[n % 2], "test") for n in range(COUNT - 1)]
    rows.append((f"images/{COUNT - 1}.png", "", "test"))
    path = folder / "labels.csv"
    text = "\n".join(",".join(row) for row in [("image", "label", "split"), *rows])
    path.write_text(text)
    with pytest.raises(ValueError, match="would stop a run"):
        check_labels(path, tmp_path)
    stops = found(read(tmp_path), "stop")
    assert stops["the data cannot be used"]
    assert ["label is empty" in x for x in stops["lines that cannot be used"]] == [True]


def test_copies_and_flat_pictures_are_doubts(folder, tmp_path):
    boxes = save_scenes(folder, 40)
    lines = box_lines(boxes, split=lambda n: "test" if n >= 30 else "train")
    image, box = scene(0)
    Image.fromarray(image // 2).save(folder / "images" / "30.png")
    lines[30]["box"] = box
    Image.fromarray(np.full((60, 56), 77, np.uint8)).save(folder / "images/31.png")
    Image.fromarray(scene(32)[0] // 64).save(folder / "images/32.png")
    doubts = check_boxes(write_boxes(folder, lines), tmp_path)
    document = found(read(tmp_path), "doubt")
    (faint,) = document["pictures with hardly any contrast"]
    assert "line 33 (32.png" in faint and "of 256 grey levels" in faint
    (near,) = document["near copies in two parts"]
    assert "line 1 (0.png, train) ~ boxes.jsonl, line 31 (30.png, test)" in near
    (flat,) = document["pictures without contrast"]
    assert "line 32 (31.png" in flat
    assert len(doubts) == 3
    # what is trained on them is doubtful too: exit code 3
    path = folder / "boxes.jsonl"
    where = {"seed": 0, "workdir": tmp_path}
    chain = medloc.stages(**where, **smoke.sections(f"data={path}"))
    assert stage_doubts(chain, **where) == doubts


def test_equal_pictures_with_other_labels_are_told(folder, tmp_path):
    save_scenes(folder, COUNT)
    image, _ = scene(0)
    Image.fromarray(image).save(folder / "images" / "1.png")
    rows = [f"images/{n}.png,{'ab'[n % 2]}" for n in range(COUNT)]
    path = write_labels(folder, rows, header="image,label")
    with pytest.raises(ValueError, match="line 3: 1.png shows the same pixels as 0"):
        check_labels(path, tmp_path)
    lines = found(read(tmp_path), "stop")["lines that cannot be used"]
    assert len(lines) == 2 and lines[0].startswith("labels.csv, line 2: with it, ")
    assert "'b' and not 'a'" in lines[1]  # labels may be named


def test_an_unknown_word_for_wrong_lines_is_refused(folder, tmp_path):
    path = write_boxes(folder, box_lines(save_scenes(folder, COUNT)))
    with pytest.raises(ValueError, match="data.on_bad='ignore': expected one of"):
        check_boxes(path, tmp_path, data__on_bad="ignore")


def test_data_that_cannot_be_read_at_all_has_a_page_too(folder, tmp_path):
    folder.mkdir()
    path = write_boxes(folder, [])
    with pytest.raises(ValueError, match="cannot be used"):
        check_boxes(path, tmp_path)
    assert found(read(tmp_path), "stop")["the data cannot be used"]
    assert (tmp_path / "check.html").exists()


def test_a_stage_that_would_not_begin_is_told(folder, tmp_path):
    boxes = save_scenes(folder, COUNT)
    path = write_boxes(folder, box_lines(boxes))
    with pytest.raises(ValueError, match="max_tokens=5 is too short"):
        check_boxes(path, tmp_path, train__grpo__max_tokens=5)


def test_questions_that_are_too_long_are_counted_and_may_be_dropped(folder, tmp_path):
    lines = box_lines(save_scenes(folder, COUNT))
    for n in (3, 5, 7, 9):
        lines[n]["query"] = "Find the square. " * (120 + n)
    path = write_boxes(folder, lines)
    where = {"seed": 0, "workdir": tmp_path}
    told = (
        r"boxes.jsonl: 4 questions are too long, of so many characters: boxes.jsonl, "
        r"line 4 \(2090\), boxes.jsonl, line 6 \(2124\), boxes.jsonl, line 8 \(2158\), "
        r"\.\.\.; expected 2000 at most.*raise data.longest, or leave them out by"
    )
    with pytest.raises(ValueError, match=told):
        medloc.stages(**where, **smoke.sections(f"data={path}"))
    with pytest.raises(ValueError, match="lines that cannot be used: 4"):
        check_boxes(path, tmp_path)
    (doubt,) = check_boxes(path, tmp_path, data__on_bad="drop")
    assert doubt.startswith("lines that cannot be used: 4")
    assert read(tmp_path)["tokens"]["question"]["max"] < 100
    assert check_boxes(path, tmp_path, data__longest=2200) == []


def test_training_waits_for_the_check(folder, tmp_path, capsys):
    boxes = save_scenes(folder, COUNT)
    lines = box_lines(boxes, split=lambda n: "test" if n >= 12 else "train")
    where = {"seed": 0, "workdir": tmp_path}
    path = write_boxes(folder, lines)
    medloc.stages(**where, **smoke.sections(f"data={path}"))
    assert "reading pictures" in capsys.readouterr().err
    # a copy in the test part: refused, whatever it is called
    Image.fromarray(scene(0)[0]).save(folder / "images" / "15.png")
    with pytest.raises(ValueError, match="line 16: 15.png shows the same .* 0.png"):
        medloc.stages(**where, **smoke.sections(f"data={path}"))
    # and so it is where the boxes are the same
    write_boxes(folder, [*lines[:15], lines[15] | {"box": lines[0]["box"]}])
    with pytest.raises(ValueError, match="line 16: split test.*line 1.*same picture"):
        medloc.stages(**where, **smoke.sections(f"data={path}"))
    sections = smoke.sections(f"data={path}", data__check="off")
    capsys.readouterr()
    medloc.stages(**where, **sections)
    assert "reading pictures" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="data.check='of': expected one of on, off"):
        medloc.stages(**where, **smoke.sections(f"data={path}", data__check="of"))

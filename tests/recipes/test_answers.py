"""--mode=eval --answers=FILE: our own answers give our own tables, others' the same."""

import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from medjax.data.classes.batches import LabelRecord
from medjax.data.classes.tasks import ClassTask
from medjax.data.lists.files import Line
from medjax.recipes import answers, vrft_aug
from medjax.recipes.boxes.data import BoxData, BoxPrompt, box_style, load_box_parts
from medjax.recipes.boxes.exam import box_exam
from medjax.recipes.classes.data import LabelData, LabelPrompt
from medjax.recipes.classes.exam import read_label_sets, read_labels
from medjax.recipes.medloc import chain
from medjax.recipes.policy.answers import Asked, Exam, match_lines, score_answers
from medjax.recipes.policy.opening import open_geometry
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section
from medjax.rl.text.box_set_reader import box_set_tables
from medjax.rl.text.label_set_text import label_set_forms
from medjax.rl.text.label_text import label_forms
from medjax.systems.policy.box_sets import SetPredictions, judge_sets
from medjax.systems.policy.boxes import Predictions, judge
from medjax.systems.policy.classes import Predictions as LabelPredictions
from medjax.systems.policy.classes import SetPredictions as LabelSetPredictions
from medjax.systems.policy.classes import read_answers
from tests.recipes import smoke, smoke_labels
from tests.recipes.pictures import box_lines, save_scenes, write_boxes, write_labels
from tests.recipes.policy.hub import SECTION, make

QUIET = {"evaluation__no_image": False}
ROOM = 96  # tokens of an answer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDJAX_CACHE", str(tmp_path / "cache"))


def tokens_of(tokenizer, texts, rows):
    """Texts as a policy writes them: padded tokens, and their mask."""
    tokens = np.zeros((rows, ROOM), np.int32)
    mask = np.zeros((rows, ROOM), bool)
    for n, text in enumerate(texts):
        ids = tokenizer.encode(text, add_special_tokens=False)[:ROOM]
        tokens[n, : len(ids)], mask[n, : len(ids)] = ids, True
    return tokens, mask


def own(stage, folder, tokenizer, write, read):
    """A stage's own evaluation of written answers; its folder."""
    results, count = [], 0
    for batch, records in stage.eval_batches():
        texts = [write(record, count + n) for n, record in enumerate(records)]
        count += len(records)
        given = tokens_of(tokenizer, texts, len(batch.valid))
        predictions, values = read(batch, *given)
        values |= {"valid": batch.valid, "finite": batch.valid}
        values["length"] = given[1].sum(axis=1)
        results.append((predictions, values, records))
    stage.score(results, folder)
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def tables(workdir, name):
    return json.loads((workdir / f"answers/{name}/eval/0/tables.json").read_text())


def cell(workdir, name, column):
    """Of the first table: the value in the row of the file's name."""
    first, *_ = tables(workdir, name)
    (row,) = (row for row in first["rows"] if row[0] == name)
    return float(row[first["header"].index(column)].split()[0])


def written(record, n):
    """Right boxes, wrong ones, swapped ones, none, and what is no answer."""
    rng = np.random.default_rng(n)
    boxes = record.boxes if hasattr(record, "boxes") else record.box[None]
    boxes = boxes + rng.uniform(-4, 4, boxes.shape) * (n % 3)
    if n % 5 == 4:
        return ("nothing", "<answer>[1, 2]</answer>", "<answer>[]</answer>")[n % 3]
    said = [[round(x, n % 4) for x in box] for box in boxes.tolist()]
    answer = ", ".join(f'{{"bbox_2d": {box}}}' for box in said)
    return f"<think>here, µ</think><answer>[{answer}]</answer>"


def read_boxes(setup, batch, tokens, mask):
    judged = jax.jit(judge)(tokens, mask, batch.boxes, setup.policy.tables)
    values = judged._asdict()
    return Predictions(values.pop("boxes"), tokens, mask), values


def read_sets(setup, batch, tokens, mask):
    sets = box_set_tables(think=True)
    judged = jax.jit(judge_sets)(
        tokens, mask, batch.boxes, batch.box_valid, setup.policy.tables, sets
    )
    found = judged.sets
    sure = np.random.default_rng(1).random(found.box_valid.shape).round(6)
    values = {
        "quality": judged.quality,
        "parsed": judged.parsed,
        "well_formed": judged.well_formed,
        "num_boxes": found.num_boxes,
    }
    return SetPredictions(found.boxes, found.box_valid, sure, tokens, mask), values


def user_boxes(folder, kind, count=12):
    """A user's list, and its lines; sets have none to two boxes."""
    lines = box_lines(save_scenes(folder, count))
    if kind == "set":
        for n, line in enumerate(lines):
            box = line.pop("box")
            line["boxes"] = [box, [0, 0, 9, 9 + n]][: n % 3]
    return write_boxes(folder, lines), lines


def box_sections(path, kind, **changes):
    half = {"data__test_share": 0.5, "data__answers": kind}
    return smoke.sections(f"data={path}", **QUIET, **half, **changes)


def same_files(found, folder):
    for name in ("answers.jsonl", "tables.json", "tables.txt"):
        assert (found / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize(("kind", "read"), [("one", read_boxes), ("set", read_sets)])
def test_our_own_boxes_give_our_own_tables(kind, read, tmp_path):
    path, _ = user_boxes(tmp_path, kind)
    sections = box_sections(path, kind)
    setup = smoke.setup_of(sections)._replace(workdir=tmp_path)
    *_, stage = chain(setup, smoke.make_training())
    folder = tmp_path / "grpo" / "eval" / "4"
    tokenizer = setup.policy.tokenizer
    own(stage, folder, tokenizer, written, partial(read, setup))
    path = tmp_path / "grpo.jsonl"
    path.write_bytes((folder / "answers.jsonl").read_bytes())
    assert answers.medloc(str(path), seed=0, workdir=tmp_path, **sections) == []
    same_files(tmp_path / "answers" / "grpo" / "eval" / "0", folder)
    kept = [row.get("box", row.get("boxes")) is not None for row in rows(path)]
    assert 0 < sum(kept) < len(kept)


def label_open(path, workdir, **changes):
    arg = f"policy=off,prompt=off,recite=none,data={path}"
    half = {"data__test_share": 0.5}
    sections = smoke_labels.label_sections(arg, **QUIET, **half, **changes)
    opened = vrft_aug.open_run(
        read_section(LabelData, "data", sections["data"]),
        read_section(LabelPrompt, "prompt", sections["prompt"]),
        vrft_aug.read_localisation(sections["localisation"]),
        read_section(Evaluation, "evaluation", sections["evaluation"]),
        policy=sections["policy"],
        seed=0,
        workdir=workdir,
    )
    return sections, opened.run


def user_labels(folder, kind):
    names = ("cyst", "solid", "cyst|solid" if kind == "set" else "cyst")
    save_scenes(folder, 12)
    lines = [f"images/{n}.png,{names[n % 3]},p{n}" for n in range(12)]
    return write_labels(folder, lines)


def read_classes(run, batch, tokens, mask):
    found = jax.jit(read_answers)(tokens, mask, run.setup.policy.tables, run.labels)
    rng = np.random.default_rng(0)
    logp = np.log(rng.random((len(tokens), 2 + hasattr(found, "shown"))))
    values = {
        "right": found.parsed,
        "parsed": found.parsed,
        "well_formed": found.well_formed,
        "recitation": rng.random(len(tokens)).astype(np.float32),
        "think_words": found.think_words,
    }
    if not hasattr(found, "shown"):
        return LabelPredictions(found.label, logp, tokens, mask), values
    drawn = rng.random((len(tokens), 3, 2)) < 0.5
    parts = (found.shown, found.parsed, logp, drawn, tokens, mask)
    return LabelSetPredictions(*parts), values


@pytest.mark.parametrize(
    ("kind", "said"),
    [("one", ("A", "b.", "solid", "which?")), ("set", ("A, B", "none", "solid", "A,"))],
)
def test_our_own_classes_give_our_own_tables(kind, said, tmp_path):
    path = user_labels(tmp_path, kind)
    draws = {"evaluation__draws": 3} if kind == "set" else {}
    sections, run = label_open(path, tmp_path, data__answers=kind, **draws)
    training = vrft_aug.read_training(sections["warm_start"], sections["train"])
    *_, stage = vrft_aug.label_chain(run, training, zero_shot=False)
    folder = tmp_path / "grpo" / "eval" / "4"

    def write(record, n):
        return f"<think>pale, round</think><answer>{said[n % 4]}</answer>"

    own(stage, folder, run.setup.policy.tokenizer, write, partial(read_classes, run))
    path = tmp_path / "grpo.jsonl"
    path.write_bytes((folder / "answers.jsonl").read_bytes())
    assert answers.vrft_aug(str(path), seed=0, workdir=tmp_path, **sections) == []
    same_files(tmp_path / "answers" / "grpo" / "eval" / "0", folder)


class Lists(NamedTuple):
    """An exam about a user's list, and right answers of somebody else to it."""

    exam: Exam
    source: Path
    evaluation: Evaluation
    lines: list


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """By kind of answer; no tokenizer is made."""
    found = {}
    for kind in ("one", "set"):
        folder = tmp_path_factory.mktemp(kind)
        path, lines = user_boxes(folder, kind)
        sections = box_sections(path, kind, data__check="off")
        data = read_section(BoxData, "data", sections["data"])
        style = box_style(BoxPrompt(**sections["prompt"]), answers=kind)
        geometry = open_geometry(sections["policy"])
        parts = load_box_parts(data, geometry, seed=0)
        tested = {x.origin for x in parts.samples if x.part == "test"}
        key = "box" if kind == "one" else "boxes"
        right = [
            {name: line[name] for name in ("image", "query", key, "frame")}
            for n, line in enumerate(lines, 1)
            if f"boxes.jsonl, line {n}" in tested
        ]
        evaluation = read_section(Evaluation, "evaluation", sections["evaluation"])
        exam = box_exam(parts, geometry, style, seed=0)
        found[kind] = Lists(exam, path, evaluation, right)
    return found


def score(there, lines, workdir, before=None, **changes):
    path = lines if isinstance(lines, Path) else workdir / "peer.jsonl"
    if path is not lines:
        write_lines(path, lines)
    return score_answers(
        there.exam,
        path,
        source=there.source,
        evaluation=there.evaluation._replace(**changes),
        before=before or {},
        workdir=workdir,
    )


def test_boxes_in_every_frame_and_as_text_are_scored(lists, tmp_path):
    there, height, width = lists["one"], 60, 56
    lines = [dict(line) for line in there.lines]
    assert len(lines) >= 5
    scale = np.array([width, height, width, height])
    for line, frame in zip(lines, ("unit", "thousand", "text"), strict=False):
        unit = np.array(line["box"]) / scale
        line["frame"] = "thousand" if frame == "text" else frame
        line["box"] = (unit * (1 if frame == "unit" else 1000)).tolist()
        if frame == "text":
            box = [round(x, 3) for x in line.pop("box")]
            line["text"] = f'<answer>{{"bbox_2d": {box}}}</answer>'
    lines[3] |= {"query": lines[3]["query"].upper()}
    assert score(there, lines, tmp_path) == []
    assert cell(tmp_path, "peer", "mIoU") == 1
    first, *_ = tables(tmp_path, "peer")
    names = [row[0] for row in first["rows"]]
    assert "linear probe" in names and "no image: mean box" in names
    # the folder is a row beside another's answers
    place = {"peer": str(tmp_path / "answers/peer/eval")}
    missed = [line | {"text": None, "box": None} for line in lines]
    write_lines(tmp_path / "other.jsonl", missed)
    assert score(there, tmp_path / "other.jsonl", tmp_path, beside=place) == []
    first, *_ = tables(tmp_path, "other")
    assert [row[2].split()[0] for row in first["rows"]][:2] == ["0.000", "1.000"]
    # an earlier stage of the run is another contender, not what the peer came from
    before = {"warm_start": tmp_path / "answers/peer/eval"}
    assert score(there, tmp_path / "other.jsonl", tmp_path, before=before) == []
    first, *_ = tables(tmp_path, "other")
    assert first["rows"][1][0] == "warm_start"
    page = (tmp_path / "answers/other/report.html").read_text()
    assert "other is worse than warm_start (0.000 against 1.000" in page
    assert "fell from" not in page


def test_sets_of_somebody_else_are_scored(lists, tmp_path):
    there = lists["set"]
    assert score(there, there.lines, tmp_path) == []
    assert cell(tmp_path, "peer", "Q") == 1 and cell(tmp_path, "peer", "count") == 1
    ranked = tables(tmp_path, "peer")[1]  # without confidences nobody is ranked
    assert "peer" not in [row[0] for row in ranked["rows"]]
    sure = [line | {"confidence": [0.5] * len(line["boxes"])} for line in there.lines]
    many = [line | {"boxes": [[0, 0, 9, 9]] * 9} for line in there.lines[:1]]
    assert score(there, [*many, *sure[1:]], tmp_path) == []
    assert cell(tmp_path, "peer", "read") < 1  # nine are not matched


@pytest.mark.parametrize("kind", ["one", "set"])
@pytest.mark.parametrize(
    ("scale", "said"), [(1, "unit"), (1 / 60, "thousand"), (1 / 60, "original")]
)
def test_boxes_that_lie_as_in_another_frame_are_told_of(
    lists, kind, scale, said, tmp_path
):
    """Pixels that are called shares of a side, and shares that are called others."""
    there, key = lists[kind], "box" if kind == "one" else "boxes"
    lines = [
        line | {"frame": said, key: (scale * np.array(line[key])).tolist()}
        for line in there.lines
    ]
    (doubt,) = score(there, lines, tmp_path)
    assert "is 'frame' what they are measured in?" in doubt
    count = len(lines) if kind == "one" else sum(len(line["boxes"]) for line in lines)
    assert f"peer.jsonl: {count} of {count} boxes leave" in doubt


def test_what_is_left_out_counts_as_wrong_where_it_is_said(lists, tmp_path):
    there = lists["one"]
    with pytest.raises(ValueError, match=r"1 of \d+ questions have no answer: boxes"):
        score(there, there.lines[1:], tmp_path)
    (doubt,) = score(there, there.lines[1:], tmp_path, unanswered="wrong")
    assert "peer.jsonl: 1 of" in doubt and "count as wrong" in doubt
    right = (len(there.lines) - 1) / len(there.lines)
    assert cell(tmp_path, "peer", "mIoU") == pytest.approx(right, abs=1e-3)
    with pytest.raises(ValueError, match="unanswered='no': expected one of refuse"):
        score(there, there.lines, tmp_path, unanswered="no")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("one", {"image": "images/99.png"}, "1 of 6 lines answer .* not in the test"),
        ("one", {"query": "What?"}, "image 'images/.*query 'What"),
        ("one", {"frame": None}, "line 1: 'frame' is not declared"),
        ("one", {"frame": "inches"}, "line 1: frame 'inches'; expected one of"),
        ("one", {"box": [1, 2, 3]}, "line 1: box .*expected four numbers"),
        ("one", {"box": [1, 2, "3", 4]}, "line 1: box .*expected four numbers"),
        ("one", {"box": [1, 2, None, 4]}, "line 1: a number of box .* is null"),
        ("one", {"boxs": []}, "line 1: keys .'boxs'. are not read; expected some of"),
        (
            "one",
            {"parsed": True, "well_formed": True, "why": ""},
            "a line of --mode=predict: .*--checkpoint",
        ),
        ("one", {"text": 3}, "line 1: text 3; expected text"),
        ("one", {"text": "<answer></answer>"}, "line 1: box .* read of the answer is"),
        ("one", {"sample_id": "0"}, "line 1: sample_id '0'; expected a whole number"),
        ("one", {"target": [0, 0, 1, 1]}, "line 1: target .* but here it is"),
        ("one", {"iou": 0.5}, "line 1: iou 0.5, but what is read .* is 1.0"),
        ("set", {"boxes": [[1, 2, 3]]}, "line 1: boxes .*expected four numbers"),
        ("set", {"boxes": 3}, "line 1: boxes 3; expected a list of boxes"),
        ("set", {"confidence": [0.1] * 5}, "line 1: confidence .* a number for each"),
    ],
)
def test_lines_that_cannot_be_scored_are_named(lists, kind, change, message, tmp_path):
    there = lists[kind]
    first, *rest = sorted(
        there.lines, key=lambda x: -len(x.get("boxes", ())), reverse=False
    )
    changed = {k: x for k, x in (first | change).items() if x is not None}
    with pytest.raises(ValueError, match=message):
        score(there, [changed, *rest], tmp_path)


def test_broken_files_are_named_by_line(lists, tmp_path):
    there = lists["one"]
    path = write_lines(tmp_path / "peer.jsonl", there.lines)
    text = path.read_text()
    for spoilt, message in (
        (text.replace("{", "", 1), "peer.jsonl, line 1: not JSON"),
        (text.replace('"box": [', '"box": [NaN, ', 1), "line 1: NaN is not JSON"),
        (text + text.splitlines()[0], r"line \d+ \(as peer.jsonl, line 1\)"),
        ("[]\n" + text, "line 1: expected a JSON object"),
    ):
        path.write_text(spoilt)
        with pytest.raises(ValueError, match=message):
            score(there, path, tmp_path)
    with pytest.raises(FileNotFoundError, match="gone.jsonl: no such file"):
        score(there, tmp_path / "gone.jsonl", tmp_path)
    bare = [{"query": line["query"], "box": line["box"]} for line in there.lines]
    with pytest.raises(ValueError, match="line 1: names no picture; expected 'sample"):
        score(there, bare, tmp_path)
    none = [{k: x for k, x in line.items() if k != "box"} for line in there.lines]
    with pytest.raises(
        ValueError, match=r"line \d+: no answer; expected 'text', or 'box'"
    ):
        score(there, none, tmp_path)


def test_an_image_with_several_questions_needs_one_named():
    asked = [Asked(n, "a, line 1", ("a",), f"{n}?", "x") for n in range(2)]
    lines = [Line("p, line 1", {"picture": "a, line 1"})]
    rest = {"column": "structure", "root": Path("."), "refuse_missing": False}
    with pytest.raises(ValueError, match="could be 2 questions of the test"):
        match_lines(lines, asked, **rest)
    lines = [Line("p, line 1", {"picture": "a, line 1", "query": "1?"})]
    assert match_lines(lines, asked, **rest) == [None, *lines]


GRADES = ClassTask("g", ("tiny", "small", "large"), (), ordinal=True, first_grade=1)
NAMES = GRADES._replace(ordinal=False)
SEVERAL = NAMES._replace(multi=True)
RECORD = LabelRecord(0, None, "Q", "size", (1,), "small", "s", "g", "", {})


def read_one(task, form, **cells):
    several = {True: read_label_sets, False: read_labels}[task.multi]
    letters = ("A", "B", "C") if form == "letter" else None
    if task.multi:
        forms = label_set_forms(task.classes, letters=letters)
    else:
        grades = (1, 2, 3) if form == "grade" else None
        forms = label_forms(task.classes, letters=letters, grades=grades)
    found = several(task, forms, True, [Line("p, line 1", cells)], [RECORD])
    if not task.multi:
        return int(found.predictions["label"][0])
    shown = np.flatnonzero(found.predictions["shown"][0]).tolist()
    return shown if found.predictions["read"][0] else None


def test_labels_are_read_by_name_letter_and_grade():
    assert read_one(NAMES, "letter", label="B") == 1
    assert read_one(NAMES, "letter", label=" (c) large ") == 2
    assert read_one(NAMES, "name", label="Tiny") == 0
    assert read_one(GRADES, "grade", label=1) == read_one(GRADES, "grade", label="1")
    assert read_one(GRADES, "grade", label=1) == 0
    assert read_one(NAMES, "letter", label=None) == -1
    assert read_one(NAMES, "letter", text="<answer>b</answer>", label="B") == 1
    assert read_one(NAMES, "letter", text="no") == -1
    # as answers.jsonl has it: the index beside the name
    assert read_one(NAMES, "letter", text=None, label=2, answer="large") == 2
    assert read_one(SEVERAL, "letter", labels=["C", "tiny"]) == [0, 2]
    assert read_one(SEVERAL, "letter", labels=[]) == []
    assert read_one(SEVERAL, "letter", labels=None) is None
    assert read_one(SEVERAL, "letter", text="<answer>none</answer>") == []
    assert read_one(SEVERAL, "letter", answer="tiny, large", labels=[0, 2]) == [0, 2]


@pytest.mark.parametrize(
    ("task", "cells", "message"),
    [
        (
            NAMES,
            {"label": "huge"},
            "line 1: label 'huge'; expected one of them, called",
        ),
        (NAMES, {"label": 1}, "line 1: label 1; expected one of them"),
        (NAMES, {"label": True}, "line 1: label True; expected one of them"),
        (NAMES, {}, "line 1: no answer; expected 'text', or 'label'"),
        (NAMES, {"label": "B", "target": "tiny"}, "target 'tiny', but here it is 'sm"),
        (NAMES, {"text": "x", "answer": "tiny"}, "answer 'tiny', but what is read"),
        (NAMES, {"text": "x", "label": "B"}, "label 'B', but what is read of the"),
        (NAMES, {"answer": "tiny", "label": 2}, "label 2, but what is read"),
        (NAMES, {"label": "B", "recitation": 2}, "recitation 2; expected a number"),
        (NAMES, {"label": "B", "length": "9"}, "length '9'; expected a number"),
        (SEVERAL, {"labels": ["B", "huge"]}, "labels .* a list of them, which may be"),
        (SEVERAL, {"labels": "B"}, "labels 'B'; expected a list of them"),
        (SEVERAL, {"labels": ["none"]}, "labels .'none'.; expected a list of them"),
        (SEVERAL, {"text": "x", "labels": ["B"]}, "labels .'B'., but what is read"),
        (SEVERAL, {"labels": [], "shares": [0.5]}, "shares .* for each of 3 classes"),
        (SEVERAL, {"labels": [], "shares": [0, 1, 2]}, "a number from 0 to 1 for each"),
    ],
)
def test_labels_that_cannot_be_scored_are_named(task, cells, message):
    with pytest.raises(ValueError, match=message):
        read_one(task, "letter", **cells)


def test_neither_weights_nor_a_tokenizer_are_read(tmp_path):
    policy = make()
    folder = tmp_path / "hub"
    policy.save(folder, smoke.draw_params(policy.model))
    section = SECTION | {"path": str(folder), "tied": None}
    whole = open_geometry(section)
    for path in folder.iterdir():
        if path.name not in ("config.json", "preprocessor_config.json"):
            path.unlink()
    assert open_geometry(section) == whole
    assert whole.patch == SECTION["vision"]["patch"]
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no\s+config.json"):
        open_geometry(section)

"""What stands before training: pictures read once, by process 0, and leaks found."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medjax.data.audit.facts import measure
from medjax.data.audit.records import Pictures, Sample
from medjax.data.batches import Parts
from medjax.data.images import ImageFile
from medjax.recipes.policy import checking
from medjax.recipes.policy.check_report import data_findings
from medjax.recipes.policy.findings import DOUBT, NOTE, STOP, Finding, say
from tests.recipes.pictures import scene


def rgb(seed):
    return np.repeat(scene(seed)[0][..., None], 3, axis=-1)


def sample(n, part, group="", path="", **groups):
    file = ImageFile(Path(path or f"/data/{n}.png"))
    return Sample(
        origin=f"l.csv, line {n}",
        part=part,
        images=(file,),
        group=group or f"g{n}",
        groups=groups,
        labels=("a",),
        size=(60, 56),
    )


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDJAX_CACHE", str(tmp_path / "cache"))
    found = {}
    for n in range(4):
        path = tmp_path / f"{n}.png"
        Image.fromarray(scene(n)[0]).save(path)
        found[ImageFile(path)] = f"l.csv, line {n + 2}"
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return found | {ImageFile(tmp_path / "broken.png"): "l.csv, line 9"}


def test_facts_are_kept_by_source(files, tmp_path):
    decode = checking.make_decode(str(tmp_path / "l.csv"), "on")
    first = decode(files)
    assert first.decoded == 5 and len(first.facts) == 4 and len(first.problems) == 1
    again = checking.make_decode(str(tmp_path / "l.csv"), "on")(files)
    assert again.decoded == 1 and again.facts == first.facts  # what failed, again
    assert checking.make_decode("l.csv", "off") is None
    assert len(list((tmp_path / "cache" / "pictures").iterdir())) == 1


def test_process_0_reads_and_the_others_hear(files, tmp_path, monkeypatch):
    """Three processes in turn: what each gathers is what all have said."""
    said = {}

    def as_process(index):
        monkeypatch.setattr(checking.jax, "process_index", lambda: index)
        monkeypatch.setattr(checking.jax, "process_count", lambda: 3)

        def gather(text):
            said[index] = text
            return [said[0], "", ""]

        monkeypatch.setattr(checking, "gather_texts", gather)
        monkeypatch.setattr(checking, "_require_same_files", lambda _: None)
        if index:  # only process 0 may touch the pictures
            monkeypatch.setattr(checking, "read_pictures", None)
        found = checking.decode_once(tmp_path / "cache" / "a.npz", files)
        assert found.near is not None  # looked for by process 0
        return found

    first = as_process(0)
    for index in (1, 2):
        heard = as_process(index)
        assert said[index] == ""
        assert heard == first
        assert heard.problems.keys() == first.problems.keys()
    assert [f.digest for f in first.facts.values()] == [
        measure(rgb(n)).digest for n in range(4)
    ]


def test_another_picture_on_another_process_is_named(files, tmp_path, monkeypatch):
    """Of the same name, and for one of the same size."""
    said, seen = [], []
    monkeypatch.setattr(checking, "gather_texts", lambda x: said.append(x) or [x, x])
    monkeypatch.setattr(checking, "require_alike", lambda *x: seen.append(x))
    checking._require_same_files(files)
    for content in (b"no pictuer", b"no picture at all"):
        (tmp_path / "broken.png").write_bytes(content)
        monkeypatch.setattr(checking, "gather_texts", lambda x: [said[0], x])
        checking._require_same_files(files)
        assert str(len(content)) in seen.pop()[1][str(tmp_path / "broken.png")]


def pictures(samples, images):
    pairs = zip(samples, images, strict=True)
    return Pictures({s.images[0]: measure(x) for s, x in pairs}, {}, 0)


def kinds(samples, images):
    found = checking.find_faults(parts_of(samples, images))
    return {finding.what: finding for finding in found}


def parts_of(samples, images, **more):
    facts = pictures(samples, images)
    return Parts(None, None, {}, tuple(samples), pictures=facts, **more)


def test_well_parted_data_has_no_faults():
    samples = [sample(n, "test" if n == 3 else "train") for n in range(4)]
    assert kinds(samples, [rgb(n) for n in range(4)]) == {}


def test_leaks_stop_and_doubts_do_not():
    samples = [
        sample(0, "train"),
        sample(1, "test"),
        sample(2, "train", patient="p1"),
        sample(3, "test", patient="p1"),
        sample(4, "train"),
        sample(5, "test"),
        sample(6, "train"),
        sample(7, "train"),
        sample(8, "", patient="p1"),
    ]
    images = [rgb(n) for n in (0, 0, 2, 3, 4, 4, 6, 6, 8)]
    images[5], images[7] = images[5] // 2, images[7] // 2
    images[8] = np.full((60, 56, 3), 9, np.uint8)
    found = kinds(samples, images)
    stops = {what for what, finding in found.items() if finding.weight == STOP}
    assert stops == {"equal pictures in two parts", "groups in two parts"}
    (equal,) = found["equal pictures in two parts"].lines
    assert equal == "l.csv, line 0 (0.png, train) = l.csv, line 1 (1.png, test)"
    (group,) = found["groups in two parts"].lines
    assert "line 3 (test)" in group and "line 2 (train)" in group and "patient" in group
    (near,) = found["near copies in two parts"].lines
    assert "line 4 (4.png, train) ~ l.csv, line 5 (5.png, test)" in near
    assert found["near copies in one part"].weight == NOTE
    (flat,) = found["pictures without contrast"].lines
    assert "line 8 (8.png, unused)" in flat
    with pytest.raises(ValueError, match="did not pass the check.*\n.*groups in two"):
        checking.gate(parts_of(samples, images))


def test_what_a_new_domain_is_raises_no_doubt_and_copies_in_a_file_do():
    parts = Parts(None, None, {}, notes=("12 structures",), copies=("2 of 6",))
    copied, new = data_findings(parts, on_bad="stop")
    assert copied == Finding("equal pictures in two parts", DOUBT, ("2 of 6",))
    assert new == Finding("new domain", NOTE, ("12 structures",))
    (read,) = data_findings(
        parts_of([sample(0, "train")], [rgb(0)])._replace(notes=("2 readers",)),
        on_bad="stop",
    )
    assert read == Finding("readers", NOTE, ("2 readers",))


def test_the_gate_passes_what_it_does_not_know():
    assert checking.gate(Parts(None, None, {})) == []


def test_doubts_of_data_are_returned_but_for_those_that_may_be_right(capsys):
    samples = [
        sample(n, "test" if n == 3 else "train", patient="p", lesion_id="l")
        for n in range(3)
    ]
    samples[2] = samples[2]._replace(labels=("b",), groups={"patient": "p"})
    images = [rgb(0), rgb(1), np.full((60, 56, 3), 9, np.uint8)]
    (doubt,) = checking.gate(parts_of(samples, images, single=True))
    assert doubt.startswith("pictures without contrast: 1")
    told = capsys.readouterr().err
    assert "warning: pictures without contrast: 1\n" in told
    assert "several labels" not in told  # of a patient: a note of the check
    # a lesion has one diagnosis; in a task with sets of labels nothing follows
    samples[2] = samples[2]._replace(groups={"patient": "p", "lesion_id": "l"})
    doubts = checking.gate(parts_of(samples, images, single=True))
    (lesions,) = [doubt for doubt in doubts if doubt.startswith("lesions")]
    assert "lesion_id 'l': l.csv, line 0 (a), l.csv, line 2 (b)" in lesions
    assert len(checking.gate(parts_of(samples, images))) == 1


def test_a_group_that_is_no_identity_is_doubted_by_name():
    def told(count, values, column):
        rows = [sample(n, "train", **{column: values[n % 2]}) for n in range(count)]
        return kinds(rows, [rgb(n) for n in range(count)])

    (line,) = told(20, "FM", "patient_sex")[
        "columns of data.group with few values"
    ].lines
    assert line.startswith("patient_sex: 2 values ('F', 'M') on 20 rows; all rows of")
    assert "take patient_sex out of data.group" in line
    for count, column in ((20, "patient"), (20, "volume"), (18, "patient_sex")):
        assert told(count, "FM", column) == {}


def test_a_finding_is_told_in_a_few_lines_of_every_kind():
    def lines(finding, most=5):
        return say(finding, most).splitlines()[1:]

    short = Finding("x", STOP, tuple("abcde"))
    assert lines(short) == [f"    {c}" for c in "abcde"]
    same = tuple(f"l.csv, line {n}: no image 'a b{n}.png' of {n}.5" for n in range(7))
    told = lines(Finding("x", STOP, same))
    assert told == [*(f"    {line}" for line in same[:5]), "    and 2 more"]
    mixed = (*same, "l.csv, line 8: box [1, 2, 3, 4] is empty", *same)
    told = say(Finding("x", STOP, mixed)).splitlines()
    assert told == [
        "x: 15",
        f"    {same[0]} (and 13 more like it)",
        "    l.csv, line 8: box [1, 2, 3, 4] is empty",
    ]
    kinds = tuple(f"fault {c}" for c in "abcdefg")
    assert lines(Finding("x", STOP, kinds))[-1] == "    and 2 more, of 2 other kinds"

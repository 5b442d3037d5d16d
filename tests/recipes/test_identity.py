"""Whose pictures they are stands in no file of a run: planted markers are searched."""

import base64
import gzip
import io
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import zipfile
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

from medjax.recipes import medloc, vrft_aug
from medjax.recipes.policy.privacy import hide_group
from medjax.report.page import write_report
from medjax.runtime.writer import write_manifest
from tests.recipes import smoke, smoke_labels
from tests.recipes.pictures import box_lines, scene, write_boxes, write_labels

MARKERS = ("MARKNAME", "MARKID", "19700131", "MARKPAT", "MARKFOLDER", "MARKSTUDY")
FORMS = ("utf-8", "utf-16-le", "utf-32-le")
COUNT = 8


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Pictures in DICOM and PNG whose headers, folders and lists name patients."""
    monkeypatch.setenv("MEDJAX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "MARKFOLDER 7" / "data"
    (folder / "images" / "MARKFOLDER^9").mkdir(parents=True)
    return folder


def save_dicom(path, image, number):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = f"MARKNAME^{number}", f"MARKID{number}"
    data.PatientBirthDate, data.StudyDescription = "19700131", "MARKSTUDY"
    data.Modality = "OT"
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = image.tobytes()
    data.save_as(path)


def save_pictures(folder):
    """Half DICOM, half PNG with a text chunk; their names and boxes."""
    from PIL.PngImagePlugin import PngInfo

    names, found = [], []
    for n in range(COUNT):
        image, box = scene(n)
        name = f"images/MARKFOLDER^9/{n}.{'dcm' if n % 2 else 'png'}"
        if n % 2:
            save_dicom(folder / name, image, n)
        else:
            info = PngInfo()
            info.add_text("Patient", f"MARKNAME {n}", zip=True)
            Image.fromarray(image).save(folder / name, pnginfo=info)
        names.append(name)
        found.append(box)
    return names, found


def contents(data, depth=0):
    """The bytes themselves, and all that is packed in them."""
    yield data
    if depth > 3:
        return
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        at = 8
        while at + 8 <= len(data):
            length, kind = struct.unpack(">I4s", data[at : at + 8])
            body = data[at + 8 : at + 8 + length]
            if kind in (b"zTXt", b"iTXt", b"iCCP", b"eXIf"):
                yield from packed(body, depth)
            at += 12 + length
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from contents(archive.read(name), depth + 1)
    if data[:2] == b"\x1f\x8b":
        yield from contents(gzip.decompress(data), depth + 1)
    for match in re.finditer(rb"base64,([A-Za-z0-9+/=]+)", data):
        yield from contents(base64.b64decode(match.group(1)), depth + 1)
    yield from packed(data, depth)


def packed(data, depth):
    """zlib's streams, and zstandard's, wherever they begin."""
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        unpack = zlib.decompressobj()
        try:
            found = unpack.decompress(data[match.start() :], 1 << 20)
        except zlib.error:
            continue
        if len(found) > 20:
            yield found


def markers_in(workdir):
    """(file, marker) of every marker in names or contents of a folder's files."""
    found = set()
    for path in workdir.rglob("*"):
        texts = [str(path.relative_to(workdir)).encode()]
        if path.is_file():
            texts += contents(path.read_bytes())
        for text in texts:
            for marker in MARKERS:
                forms = (marker.encode(form) for form in FORMS)
                if any(form in text for form in forms):
                    found.add((str(path.relative_to(workdir)), marker))
    return found


def test_the_search_sees_markers(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("a", "MARKNAME" + " " * 100, zip=True)
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG", pnginfo=info)
    png = buffer.getvalue()
    (tmp_path / "a.png").write_bytes(png)
    page = b"data:image/png;base64," + base64.b64encode(png)
    (tmp_path / "b.html").write_bytes(page)
    np.savez_compressed(tmp_path / "c.npz", np.array(["MARKID"]))
    (tmp_path / "d.gz").write_bytes(gzip.compress(b"MARKPAT"))
    (tmp_path / "MARKFOLDER").mkdir()
    (tmp_path / "e.txt").write_text("MARKSTUDY", "utf-16-le")
    found = markers_in(tmp_path)
    assert {name for name, _ in found} == {
        *("a.png", "b.html", "c.npz", "d.gz", "e.txt", "MARKFOLDER"),
    }


def run(config, workdir, *arguments):
    """A command as a user gives it, without a second start of the program."""
    env = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    env |= {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, "run.py", f"--config={config}", f"--workdir={workdir}"]
    programs = jax.config.jax_compilation_cache_dir or workdir.parent / "programs"
    cache = f"--compilation_cache={programs}"
    done = subprocess.run(
        [*command, cache, *SHORT, *arguments],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    return done


REPO = pathlib.Path(__file__).resolve().parents[2]
SHORT = (
    "--config.warm_start.steps=0",
    "--config.train.sft.steps=1",
    "--config.train.sft.batch=2",
    "--config.train.sft.questions=1",
)


def test_checks_manifests_and_exports_name_nobody(folder, tmp_path, monkeypatch):
    names, boxes = save_pictures(folder)
    lines = box_lines(boxes, image=names.__getitem__, patient=lambda n: f"MARKPAT{n}")
    lines[2]["box"] = [5, 5, 900, 40]
    lines[3]["patient"] = "MARKPAT\n3"
    path, workdir = write_boxes(folder, lines), tmp_path / "work"
    sections = smoke.sections(f"data={path}", data__on_bad="drop")
    (doubt,) = medloc.check(seed=0, workdir=workdir / "boxes", **sections)
    assert "MARKPAT" in doubt  # the terminal may name it
    command = ["run.py", f"--config=configs/medloc.py:data={path}"]
    monkeypatch.setattr(sys, "argv", [*command, f"--workdir={workdir}"])
    write_manifest(workdir / "sft", config={"seed": 0, **sections})
    setup = smoke.setup_of(sections)
    setup.policy.save(workdir / "hub", smoke.draw_params(setup.policy.model))
    rows = [f"{x},{'ab'[n // 2 % 2]},MARKPAT{n // 2}" for n, x in enumerate(names)]
    arg = f"policy=off,prompt=off,recite=none,data={write_labels(folder, rows)}"
    sections = smoke_labels.label_sections(arg)
    vrft_aug.check(seed=0, workdir=workdir / "classes", **sections)
    assert not markers_in(workdir)
    (start,) = json.loads((workdir / "sft/manifest.json").read_text("utf-8"))
    assert start["config"]["data"]["source"] == "boxes.jsonl"
    assert start["command"][2].endswith("data=boxes.jsonl")
    assert start["check"].startswith("the data passed")
    sections["data"]["identify"] = True
    write_manifest(workdir / "named", config={"seed": 0, **sections})
    assert ("named/manifest.json", "MARKFOLDER") in markers_in(workdir)


@pytest.mark.slow
def test_classes_of_patients(folder, tmp_path):
    names, _ = save_pictures(folder)
    rows = [f"{x},{'ab'[n // 2 % 2]},MARKPAT{n // 2}" for n, x in enumerate(names)]
    path = write_labels(folder, rows)
    workdir = tmp_path / "work"
    variants = "smoke,method=sft,policy=off,prompt=off,recite=none"
    config = f"configs/vrft_aug.py:{variants},data={path}"
    run(config, workdir)
    found = markers_in(workdir)
    assert not found
    lines = (workdir / "sft/eval/1/answers.jsonl").read_text("utf-8").splitlines()
    groups = {json.loads(line)["group"] for line in lines}
    salt = (tmp_path / "cache" / "salt").read_bytes()
    assert groups and groups <= {hide_group(f"MARKPAT{n}", salt) for n in range(COUNT)}
    (start,) = json.loads((workdir / "sft/manifest.json").read_text("utf-8"))
    assert start["config"]["data"]["source"] == "labels.csv"
    assert any(word.endswith("data=labels.csv") for word in start["command"])
    assert start["check"].startswith("the data passed")
    # where it is asked for, names
    run(config, workdir, "--mode=eval", "--config.data.identify=True")
    named = (workdir / "sft/eval/1/answers.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(x)["group"][:7] for x in named} == {"MARKPAT"}


@pytest.mark.slow
def test_boxes_of_patients(folder, tmp_path):
    names, boxes = save_pictures(folder)
    lines = box_lines(boxes, image=names.__getitem__, patient=lambda n: f"MARKPAT{n}")
    lines[2]["box"] = [5, 5, 900, 40]
    lines[3]["patient"] = "MARKPAT\n3"
    path = write_boxes(folder, lines)
    workdir = tmp_path / "work"
    config = f"configs/medloc.py:smoke,method=sft,data={path}"
    sections = smoke.sections(f"data={path}", data__on_bad="drop")
    (doubt,) = medloc.check(seed=0, workdir=workdir, **sections)
    assert "MARKPAT" in doubt  # the terminal may name it
    assert (workdir / "check.html").exists()
    run(config, workdir, "--config.data.on_bad=drop")
    assert (workdir / "sft" / "report.html").exists()
    assert not markers_in(workdir)
    setup = smoke.setup_of(sections)
    setup.policy.save(tmp_path / "hub", smoke.draw_params(setup.policy.model))
    assert not markers_in(tmp_path / "hub")


def test_a_run_without_the_check_says_so(folder, tmp_path, monkeypatch):
    config = {"data": {"source": "a/b.csv", "check": "off", "identify": False}}
    write_manifest(tmp_path / "sft", config=config)
    write_report(tmp_path / "sft", title="sft")
    page = (tmp_path / "sft" / "report.html").read_text("utf-8")
    assert page.count("data.check=off: the data was not checked before training") == 2

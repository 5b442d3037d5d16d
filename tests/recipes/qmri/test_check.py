"""What a scan is told to be, before a map of it is made."""

import json

import jax
import nibabel
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.recipes.qmri.check import check
from medjax.recipes.qmri.inspection import contrast_lines
from medjax.recipes.qmri.predict import predict
from medjax.sharding import make_mesh
from tests.data.scans.scan_cases import write_nifti
from tests.recipes.puq_smoke import save_scan, sections, toy_slices

TE = [0.01, 0.03, 0.06, 0.1]


def run(mode, source, workdir, **changes):
    return mode(
        str(source),
        checkpoint=None,
        workdir=workdir,
        seed=0,
        mesh=make_mesh({"data": 1}, jax.devices()[:1]),
        rules={"batch": ("data",)},
        **sections(**{f"predict__{k}": v for k, v in changes.items()}),
    )


def decays(*size, t2=0.08):
    return (1000 * np.ones((*size, 1)) * np.exp(-np.array(TE) / t2)).astype(np.float32)


def write_echoes(folder, name, images, **fields):
    """A file an echo, as dcm2niix names and describes them."""
    for e, time in enumerate(TE):
        said = {"EchoTime": time, "EchoNumber": e + 1, **fields}
        path = folder / f"{name}_e{e + 1}.nii.gz"
        write_nifti(path, np.ascontiguousarray(images[..., e]), said)


def test_images_and_their_protocol(tmp_path, capsys):
    images = decays(6, 5, 3)
    images[0, 0] = 0
    fields = {"RepetitionTime": 3.0, "FlipAngle": 90, "Manufacturer": "Siemens"}
    turned = np.array([[0, 0, 3, 1], [-2, 0, 0, 2], [0, -1.5, 0, 3], [0, 0, 0, 1.0]])
    path = tmp_path / "echoes.nii.gz"
    write_nifti(path, images, {"EchoTime": TE, **fields}, turned)
    assert run(check, path, tmp_path / "work") == []
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    assert ["TE,", "ms", "TR,", "s", "angle,", "deg", "file"] in rows
    assert ["60", "3", "90", "echoes.nii.gz"] in rows
    assert "6 x 5 pixels, 3 slices; voxels of 2 x 1.5 x 3 mm" in said
    assert "PIR: rows go to the back, columns to the feet" in said
    assert "99th percentile by contrast: 882.5, 687.3, 472.4, 286.5" in said
    assert "3.3 % are 0" in said and "of Siemens" in said
    assert "t2: " in said and "images as they are" in said
    assert not (tmp_path / "work").exists()


def test_it_says_what_predict_says(tmp_path, capsys):
    path = write_nifti(tmp_path / "a.nii.gz", decays(4, 4, 2), {"EchoTime": TE})
    run(predict, path, tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    predicted = capsys.readouterr().out.splitlines()
    run(check, path, tmp_path)
    checked = [line.strip() for line in capsys.readouterr().out.splitlines()]
    first = next(n for n, line in enumerate(predicted) if "median" in line)
    assert predicted[:first] and set(predicted[:first]) <= set(checked)
    assert "some are: set predict.overwrite" in " ".join(checked)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_doubts_and_refusals_are_predict_s(tmp_path, capsys):
    path = tmp_path / "a.nii.gz"
    write_nifti(path, decays(4, 4, 2), {"FlipAngle": [3, 6, 10, 20]})
    for mode in (check, predict):
        with pytest.raises(ValueError, match="flip angles without a repetition time"):
            run(mode, path, tmp_path)
    assert "angle, deg" in capsys.readouterr().out  # the table comes first
    said = {"FlipAngle": [3, 6, 10, 20], "RepetitionTime": 2.0}
    path.with_name("a.json").write_text(json.dumps(said))
    (doubt,) = run(check, path, tmp_path)
    assert "is it in milliseconds?" in doubt and "doubt: " not in doubt
    assert run(check, path, tmp_path, strict=False) == []
    with pytest.raises(FileNotFoundError):
        run(check, tmp_path / "none.nii", tmp_path)


def test_a_folder_of_one_series_and_what_is_not_of_it(tmp_path, capsys):
    write_echoes(tmp_path, "echoes", decays(5, 4, 2), SeriesNumber=3)
    said = {"ImageType": ["DERIVED", "T2MAP"], "SeriesNumber": 4}
    said["SeriesDescription"] = "T2 map of the scanner"
    write_nifti(tmp_path / "t2.nii.gz", np.ones((5, 4, 2), np.float32), said)
    run(check, tmp_path, tmp_path / "work")
    said = capsys.readouterr().out
    assert "echoes_e1.nii.gz: 4 files of 5 x 4 x 2; taken" in said
    assert (
        "T2 map of the scanner: 1 file of 5 x 4 x 2; not taken: a single image" in said
    )
    assert "left out, derived: t2.nii.gz" in said


def test_a_refused_folder_names_the_series_that_could_be_taken(tmp_path, capsys):
    write_echoes(tmp_path, "echoes", decays(5, 4, 2), SeriesNumber=3)
    said = {"SeriesNumber": 1, "SeriesDescription": "localizer", "EchoTime": 0.005}
    write_nifti(tmp_path / "loc.nii.gz", np.ones((8, 8, 3), np.float32), said)
    with pytest.raises(ValueError, match="differ from those of the first file"):
        run(check, tmp_path, tmp_path)
    said = capsys.readouterr().out
    assert "localizer: 1 file of 8 x 8 x 3; not taken: a single image" in said
    assert "echoes_e1.nii.gz: 4 files of 5 x 4 x 2; t2 of 4 by itself: --input=" in said
    source = said.partition("--input=")[2].split()[0]
    assert run(check, source, tmp_path) == []


def test_kspace_its_coils_noise_and_lines(tmp_path, capsys):
    kspace, *_ = toy_slices(phase=0.7)
    rng = np.random.default_rng(0)
    coils = kspace.shape[2]
    noise = rng.normal(size=(coils, 4000, 2)) @ [1, 1j]
    noise[0] *= 3
    path = save_scan(tmp_path / "head.npz", kspace=kspace, noise=noise)
    assert run(check, path, tmp_path / "work") == []
    said = capsys.readouterr().out
    assert f"{coils} coils; sensitivities unknown" in said
    condition = float(said.partition("covariance ")[2].split()[0])
    assert condition == pytest.approx(9, rel=0.15)  # of variances; 4000 samples
    sampled = kspace[1, :, 0].any(axis=1)  # [E, W]
    listed = said.partition("acceleration by contrast: ")[2].splitlines()[0]
    found = [float(x) for x in listed.split(",")]
    np.testing.assert_allclose(found, 1 / sampled.mean(axis=1), rtol=1e-3)
    assert "fully sampled centre: 32 x 8" in said
    assert "the centre is 16, 16" in said
    assert "subspace + wavelet" in said and "a subspace of rank 3" in said
    assert f"one phase of {kspace.shape[1]} contrasts, as the data say" in said


def test_files_that_are_not_one_a_contrast_are_listed_once(tmp_path):
    path = write_nifti(tmp_path / "a.nii", decays(4, 4, 2), {"EchoTime": TE})
    scan = open_scan(path)
    files = (path, tmp_path / "b.nii", tmp_path / "c.nii")
    lines = contrast_lines(scan._replace(files=files))
    assert lines[-1] == "read from a.nii, b.nii, c.nii"
    assert not any("nii" in line for line in lines[:-1])
    times = np.full((2, 4), TE)
    assert "differ by slice" in contrast_lines(scan._replace(slice_times=times))[-1]


def test_nothing_is_read_of_a_volume_but_a_few_slices(tmp_path, capsys, monkeypatch):
    from nibabel.arrayproxy import ArrayProxy

    path = write_nifti(tmp_path / "a.nii", decays(4, 4, 40), {"EchoTime": TE})
    read = []
    plain = ArrayProxy.__getitem__
    monkeypatch.setattr(
        ArrayProxy, "__getitem__", lambda self, at: read.append(at) or plain(self, at)
    )
    run(check, path, tmp_path / "work")
    # The first, the middle, and three for the level of the background's noise.
    assert {at[2] for at in read} <= {0, 20} | {6, 20, 33}
    assert nibabel.load(path).shape == (4, 4, 40, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"slab": 0}, "predict.slab 0"), ({"noise": 0.0}, "predict.noise 0.0: expected")],
)
def test_options_that_predict_refuses(tmp_path, changes, said):
    path = write_nifti(tmp_path / "a.nii", decays(4, 4, 2), {"EchoTime": TE})
    with pytest.raises(ValueError, match=said):
        run(check, path, tmp_path / "work", **changes)

"""T1 of protocols whose images differ in more than one thing: each is in the model."""

import json

import nibabel
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.recipes.qmri.models import choose_model
from medjax.recipes.qmri.options import Predict
from medjax.recipes.sections import read_section
from tests.oracles.readouts import look_locker, molli
from tests.recipes.puq_smoke import sections
from tests.recipes.qmri.test_predict import load, run, summary

SHAPE = (4, 3, 2)
T1 = np.linspace(0.5, 2.6, 24).reshape(SHAPE)


def save_series(path, images, fields):
    """Images [H, W, Z, E] of NIfTI with the sidecar's fields."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(images.astype(np.float32), affine), path)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(fields))
    return path


def ernst(angles, repetition, t1):
    """Angles in radians and TR by image [..., E]."""
    decay = np.exp(-np.asarray(repetition) / t1[..., None])
    return np.sin(angles) * (1 - decay) / (1 - np.cos(angles) * decay)


def found(workdir, name):
    return np.moveaxis(load(workdir / "predict" / name, "T1map"), 0, -1)


def test_flip_angles_with_repetition_times_of_their_own(tmp_path):
    """As one repetition time 1000 ms came out as 1384 ms, with an R^2 of 1."""
    degrees, repetition = [4.0, 20.0, 12.0], [0.025, 0.011, 0.015]
    images = 900 * ernst(np.deg2rad(degrees), repetition, T1)
    fields = {"FlipAngle": degrees, "RepetitionTime": repetition}
    path = save_series(tmp_path / "vfa.nii.gz", images, fields)
    assert run(path, tmp_path) == []
    np.testing.assert_allclose(found(tmp_path, "vfa"), T1, rtol=1e-3)
    said = summary(tmp_path / "predict" / "vfa")
    assert said["model"] == "t1_vfa" and "0.025, 0.015, 0.011" in said["model_reason"]
    sidecar = json.loads((tmp_path / "predict" / "vfa" / "T1map.json").read_text())
    assert sidecar["RepetitionTime"] == [0.025, 0.015, 0.011]  # in the angles' order


def test_flip_angles_with_a_map_of_b1(tmp_path):
    """Of 0.8 to 1.2 times the nominal angle, and of none in one voxel."""
    degrees = np.array([3.0, 9.0, 20.0])
    field = np.linspace(0.8, 1.2, 24).reshape(SHAPE).astype(np.float32)
    images = 900 * ernst(np.deg2rad(degrees) * field[..., None], 0.02, T1)
    fields = {"FlipAngle": degrees.tolist(), "RepetitionTime": 0.02}
    path = save_series(tmp_path / "vfa.nii.gz", images, fields)
    b1 = field.copy()
    b1[0, 0, 0] = 0
    save_series(tmp_path / "TB1map.nii.gz", b1, {})
    run(path, tmp_path / "nominal")
    wrong = np.moveaxis(load(tmp_path / "nominal" / "predict" / "vfa", "T1map"), 0, -1)
    assert abs(wrong[0, 0, 0] / T1[0, 0, 0] - 0.64) < 0.02  # 0.8^2
    run(path, tmp_path, b1=str(tmp_path / "TB1map.nii.gz"), slab=1)
    expected = T1.copy()
    expected[0, 0, 0] = np.nan
    np.testing.assert_allclose(found(tmp_path, "vfa"), expected, rtol=1e-3)
    said = summary(tmp_path / "predict" / "vfa")
    assert "times B1+" in said["model_reason"] and said["status"]["invalid"] == 1
    np.savez(tmp_path / "b1.npz", b1=np.moveaxis(field, -1, 0))
    run(path, tmp_path, b1=str(tmp_path / "b1.npz"), overwrite=True)
    np.testing.assert_allclose(found(tmp_path, "vfa"), T1, rtol=1e-3)
    fields = {"InversionTime": [0.1, 1.0, 2.0]}
    path = save_series(tmp_path / "ir.nii.gz", np.ones((*SHAPE, 3)), fields)
    with pytest.raises(ValueError, match="b1.npz: t1_ir has no flip angle"):
        run(path, tmp_path, magnitude=True, b1=str(tmp_path / "b1.npz"))


@pytest.mark.parametrize(
    ("times", "efficiency", "model"),
    [
        ([0.05, 0.4, 1.1, 2.5], 0.85, ""),
        ([0.05, 0.4, 1.1, 2.5], 1.0, "t1_ir"),
        ([0.05, 0.6, 2.5], 1.0, ""),
    ],
)
def test_inversions_with_repetition_times_of_their_own(
    tmp_path, times, efficiency, model
):
    ti, tr = np.array(times), np.array(times) + 1.2  # a fixed time to recover
    c, t1 = 2 * efficiency - 1, T1[..., None]
    images = 900 * (1 - (1 + c) * np.exp(-ti / t1) + c * np.exp(-tr / t1))
    fields = {"InversionTime": times, "RepetitionTimePreparation": tr.tolist()}
    path = save_series(tmp_path / "ir.nii.gz", images, fields)
    assert run(path, tmp_path, model=model) == []
    np.testing.assert_allclose(found(tmp_path, "ir"), T1, rtol=2e-3)
    said = summary(tmp_path / "predict" / "ir")
    assert said["model"] == ("t1_ir3" if efficiency < 1 else "t1_ir")
    assert "1.25" in said["model_reason"]


def test_repetition_times_that_no_model_takes_are_named(tmp_path):
    fields = {"InversionTime": [0.1, 1.0, 2.0], "RepetitionTime": [3.0, 4.0, 5.0]}
    path = save_series(tmp_path / "ir.nii.gz", np.ones((*SHAPE, 3)), fields)
    with pytest.raises(ValueError, match=r"\(3.0, 4.0, 5.0\) s, which .*'t1_look"):
        run(path, tmp_path, model="t1_look_locker")
    fields["RepetitionTime"] = [3.0, 0.9, 5.0]
    path = save_series(tmp_path / "ir.nii.gz", np.ones((*SHAPE, 3)), fields)
    with pytest.raises(ValueError, match="InversionTime 1.0 s is not below .* 0.9 s"):
        run(path, tmp_path)


def test_look_locker_readouts_in_magnitudes(tmp_path):
    """T1* is 15 % short of T1 = 1 s; a voxel that rises to nothing has no T1."""
    options = {"angle": np.deg2rad(5), "repetition": 0.02, "first": 0.02, "count": 200}
    values = np.linspace(0.4, 1.6, 24)
    runs = [look_locker(t1, **options) for t1 in values]
    times = runs[0][0][::20]
    images = 900 * np.abs(np.stack([s[::20] for _, s in runs])).reshape(*SHAPE, -1)
    images[0, 0, 0] = 900 * np.exp(-times / 0.5)
    fields = {"InversionTime": times.tolist(), "ProtocolName": "Look-Locker TFE"}
    path = save_series(tmp_path / "ll.nii.gz", images, fields)
    doubts = run(path, tmp_path, magnitude=True)
    assert doubts == []
    folder, t1 = tmp_path / "predict" / "ll", values.reshape(SHAPE)
    expected = np.where(np.arange(24).reshape(SHAPE) == 0, np.nan, t1)
    np.testing.assert_allclose(found(tmp_path, "ll"), expected, rtol=3e-3)
    t1star = 1 / (1 / t1 - np.log(np.cos(np.deg2rad(5))) / 0.02)
    maps = {name: np.moveaxis(load(folder, name), 0, -1) for name in MORE}
    assert np.all(maps["T1starsigma"][1:] < 1e-3)
    np.testing.assert_allclose(maps["T1starmap"][1:], t1star[1:], rtol=1e-3)
    efficiency = (1 + t1 / t1star) / 2
    np.testing.assert_allclose(maps["efficiency"][1:], efficiency[1:], rtol=2e-3)
    said = summary(folder)
    assert said["parameter"] == "t1" and said["status"]["undetermined"] == 1
    assert said["model"] == "t1_look_locker" and "LL: several" in said["model_reason"]


MORE = ("T1starmap", "T1starsigma", "efficiency")


def test_molli_and_what_asks_for_another_model(tmp_path):
    options = {"angle": np.deg2rad(35), "repetition": 0.0028, "echoes": 60, "beat": 1.0}
    times, curve = molli(1.0, 0.25, **options)
    images = 900 * np.abs(np.broadcast_to(curve, (*SHAPE, 8)))
    fields = {"InversionTime": times.tolist(), "SeriesDescription": "MOLLI 5(3)3"}
    path = save_series(tmp_path / "heart.nii.gz", images, fields)
    assert run(path, tmp_path, magnitude=True) == []
    np.testing.assert_allclose(found(tmp_path, "heart"), 1.0, rtol=0.01)
    scan = open_scan(path)
    asked = read_section(Predict, "predict", sections()["predict"])
    for name in ("t1_ir", "t1_ir3", "t1_sr"):
        choice = choose_model(scan, asked._replace(model=name))
        assert "the map is T1*" in choice.doubt
    with pytest.raises(ValueError, match="MOLLI measurement.* Leave the checkpoint"):
        choose_model(scan, asked, trained=True)


def test_inversion_times_that_differ_by_slice(tmp_path):
    """One inversion before the slices of an EPI, which follow each other by 35 ms."""
    times = np.array([[0.05, 0.4, 1.1, 2.5], [0.085, 0.435, 1.135, 2.535]])
    images = 900 * (1 - 1.9 * np.exp(-times / T1[..., None]))
    fields = {"InversionTime": times.T.tolist()}
    path = save_series(tmp_path / "epi.nii.gz", images, fields)
    assert run(path, tmp_path) == []
    np.testing.assert_allclose(found(tmp_path, "epi"), T1, rtol=2e-3)
    sidecar = json.loads((tmp_path / "predict" / "epi" / "T1map.json").read_text())
    assert sidecar["InversionTime"] == times.T.tolist()
    fields["InversionTime"][3] = [2.5, 1.135]
    path = save_series(tmp_path / "few.nii.gz", images, fields)
    run(path, tmp_path)
    said = summary(tmp_path / "predict" / "few")
    assert "3 inversion times are too few" in said["model_reason"]


def test_a_network_says_what_its_model_leaves_out(tmp_path):
    fields = {"InversionTime": [0.1, 0.5, 1.0, 2.0], "RepetitionTime": 2.5}
    path = save_series(tmp_path / "ir.nii.gz", np.ones((*SHAPE, 4)), fields)
    asked = read_section(Predict, "predict", sections()["predict"])
    choice = choose_model(open_scan(path), asked, trained=True)
    assert choice.model.name == "t1_ir" and "TR 2.5 s is not in it" in choice.reason
    assert "T1 of 2 s comes out 41" in choice.doubt
    fields["RepetitionTime"] = 12.0
    path = save_series(tmp_path / "ir.nii.gz", np.ones((*SHAPE, 4)), fields)
    assert choose_model(open_scan(path), asked, trained=True).doubt == ""


def test_mp2rage_is_refused_with_the_way_to_its_t1(tmp_path):
    folder = tmp_path / "anat"
    folder.mkdir()
    for n, (ti, degrees) in enumerate([(0.8, 7.0), (2.7, 5.0)]):
        fields = {"InversionTime": ti, "FlipAngle": degrees, "NumberShots": 160}
        path = folder / f"sub-01_inv-{n + 1}_MP2RAGE.nii.gz"
        save_series(path, np.ones(SHAPE), fields)
    with pytest.raises(
        ValueError, match="MP2RAGE.*mp2rage_t1.* lack RepetitionTimePreparation, Rep"
    ):
        run(folder, tmp_path)
    path = save_series(tmp_path / "sub-01_UNIT1.nii.gz", np.ones(SHAPE), {})
    with pytest.raises(ValueError, match="combined image of MP2RAGE.*mp2rage_t1"):
        run(path, tmp_path)
    # echoes after one of the inversions are a decay as any other
    curve = np.exp(-np.array([0.003, 0.01, 0.02]) / 0.03)
    fields = {"InversionTime": 2.7, "EchoTime": [0.003, 0.01, 0.02]}
    path = tmp_path / "sub-01_inv-2_MP2RAGE.nii.gz"
    run(save_series(path, np.ones((*SHAPE, 1)) * curve, fields), tmp_path)


def test_saturations_that_the_names_tell(tmp_path):
    """Imperfect ones too; what is positive needs no search for its sign."""
    times = np.array([0.1, 0.3, 0.6, 1.2, 2.5])
    images = 900 * (1 - 0.92 * np.exp(-times / T1[..., None]))
    fields = {"InversionTime": times.tolist(), "SeriesDescription": "SASHA_10HB"}
    path = save_series(tmp_path / "sr.nii.gz", images, fields)
    assert run(path, tmp_path) == []
    np.testing.assert_allclose(found(tmp_path, "sr"), T1, rtol=2e-3)
    efficiency = load(tmp_path / "predict" / "sr", "efficiency")
    np.testing.assert_allclose(efficiency, 0.46, rtol=2e-3)
    asked = read_section(Predict, "predict", sections()["predict"])
    scan = open_scan(path)
    assert choose_model(scan, asked._replace(model="t1_sr")).doubt == ""
    assert "Leave" in choose_model(scan, asked._replace(model="t1_ir")).doubt
    few = scan._replace(times=scan.times[:3])
    assert choose_model(few, asked).model.name == "t1_sr"

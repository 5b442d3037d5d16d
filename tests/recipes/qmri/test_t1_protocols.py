"""T1 of protocols whose images differ in more than one thing: each is in the model."""

import json

import nibabel
import numpy as np
import pytest

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
    with pytest.raises(ValueError, match=r"\(3.0, 4.0, 5.0\) s, which .*'t1_sr' does"):
        run(path, tmp_path, model="t1_sr")
    fields["RepetitionTime"] = [3.0, 0.9, 5.0]
    path = save_series(tmp_path / "ir.nii.gz", np.ones((*SHAPE, 3)), fields)
    with pytest.raises(ValueError, match="InversionTime 1.0 s is not below .* 0.9 s"):
        run(path, tmp_path)

"""From a file to maps: what a person runs on a scan of their own."""

import json

import jax
import nibabel
import numpy as np
import pytest

from medjax.mri.fit import FitStatus, fit_map
from medjax.mri.sense import sense_forward
from medjax.mri.signal import signal_model
from medjax.recipes.puq_predict import predict
from medjax.sharding import make_mesh
from tests.data.qmri.toy_head import ACQUISITION
from tests.recipes.puq_smoke import save_scan, sections, toy_slices

T2 = signal_model("t2")
TIMES = np.array(ACQUISITION.protocol.times)


def run(path, workdir, *, checkpoint=None, devices=1, **changes):
    mesh = make_mesh({"data": devices}, jax.devices()[:devices])
    predict(
        str(path),
        checkpoint=checkpoint,
        workdir=workdir,
        seed=0,
        mesh=mesh,
        rules={"batch": ("data",)},
        **sections(**{f"predict__{k}": v for k, v in changes.items()}),
    )


def load(folder, name):
    return np.moveaxis(nibabel.load(folder / f"{name}.nii.gz").get_fdata(), -1, 0)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Three slices with an object phase and without sensitivities."""
    kspace, target, _, roi = toy_slices(phase=0.7)
    path = save_scan(tmp_path_factory.mktemp("scan") / "head.npz", kspace=kspace)
    truth = fit_map(np.moveaxis(target, 1, 0), TIMES, model=T2, bounds=(0.01, 2.0))
    return path, np.asarray(truth.params["t2"]), roi


def test_maps_of_undersampled_kspace(scan, tmp_path, capsys):
    path, truth, roi = scan
    method = "predict__methods__subspace + wavelet__iterations"
    changes = {method.removeprefix("predict__"): 60}
    run(path, tmp_path, **changes)
    folder = tmp_path / "predict" / "head"
    found = load(folder, "T2map")
    tissue = roi & (truth < 0.2)
    # a quarter of the lines of 32 x 32 pixels, SNR 60
    error = np.median(np.abs(found - truth)[tissue] / truth[tissue])
    assert error < 0.15
    assert nibabel.load(folder / "T2map.nii.gz").header.get_zooms() == (6.5, 6.5, 8.0)
    sidecar = json.loads((folder / "T2map.json").read_text())
    assert sidecar["Units"] == "s" and sidecar["EchoTime"] == TIMES.tolist()
    assert "subspace + wavelet" in sidecar["EstimationAlgorithm"]
    assert len(list((folder / "figures").glob("slice_*.png"))) == 3
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["voxels"] > 500
    assert summary["failed"] < 0.01 * summary["voxels"]
    said = capsys.readouterr().out
    assert "3 slices, 32 x 32" in said and "4 TE, 0 to 120 ms" in said
    assert f"{summary['median_ms']:.1f} ms" in said and "not a medical device" in said


def test_a_method_can_be_named_and_an_unknown_one_is_refused(scan, tmp_path):
    path, *_ = scan
    run(path, tmp_path, method="zero-filled")
    folder = tmp_path / "predict" / "head"
    assert "zero-filled" in (folder / "T2map.json").read_text()
    with pytest.raises(ValueError, match="'GRAPPA': expected one of .*CG-SENSE"):
        run(path, tmp_path, method="GRAPPA")


def test_fully_sampled_kspace_is_only_combined(tmp_path, capsys):
    kspace, target, sens, roi = toy_slices(limit=1)
    full = sense_forward(target.astype(np.complex64), sens)
    run(save_scan(tmp_path / "full.npz", kspace=full, sens=sens), tmp_path)
    assert "fully sampled" in capsys.readouterr().out
    fit = fit_map(np.moveaxis(target, 1, 0), TIMES, model=T2, bounds=(0.01, 2.0))
    truth = np.asarray(fit.params["t2"])
    found = load(tmp_path / "predict" / "full", "T2map")
    wrong = np.abs(found - truth)[roi & (truth < 0.2)]
    assert np.median(wrong) < 1e-5


def test_maps_of_an_earlier_run_stay(scan, tmp_path):
    path, *_ = scan
    run(path, tmp_path, method="zero-filled")
    before = (tmp_path / "predict" / "head" / "T2map.nii.gz").read_bytes()
    with pytest.raises(FileExistsError, match="T2map.nii.gz exists"):
        run(path, tmp_path, method="CG-SENSE")
    assert (tmp_path / "predict" / "head" / "T2map.nii.gz").read_bytes() == before
    run(path, tmp_path, method="CG-SENSE", overwrite=True)
    assert (tmp_path / "predict" / "head" / "T2map.nii.gz").read_bytes() != before


def save_images(path, images, key, times):
    image = nibabel.Nifti1Image(images, np.diag([2.0, 2.0, 3.0, 1.0]))
    nibabel.save(image, path)
    sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    sidecar.write_text(json.dumps({key: list(times)}))
    return path


def test_images_are_fitted_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    t2 = rng.uniform(0.04, 0.2, (6, 5, 5)).astype(np.float32)
    times = [0.01, 0.03, 0.05, 0.08, 0.12]
    images = 800 * np.exp(-np.array(times, np.float32) / t2[..., None])
    images[2, 3, 1] = 0
    images[1, 1, 4, 2] = np.nan
    path = save_images(tmp_path / "mese.nii.gz", images, "EchoTime", times)
    run(path, tmp_path, slab=2)
    folder = tmp_path / "predict" / "mese"
    found = nibabel.load(folder / "T2map.nii.gz").get_fdata()
    status = nibabel.load(folder / "status.nii.gz").get_fdata()
    good = np.ones(t2.shape, bool)
    good[2, 3, 1] = good[1, 1, 4] = False
    np.testing.assert_allclose(found[good], t2[good], rtol=1e-4)
    assert (
        status[2, 3, 1] == FitStatus.NO_SIGNAL and status[1, 1, 4] == FitStatus.INVALID
    )
    assert np.isnan(found[~good]).all()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"]["invalid"] == summary["failed"] == 1


def test_magnitude_inversion_recovery_finds_the_sign(tmp_path):
    t1 = np.linspace(0.4, 2.0, 24, dtype=np.float32).reshape(4, 3, 2)
    times = [0.05, 0.2, 0.5, 1.0, 2.0, 4.0]
    images = np.abs(1 - 2 * np.exp(-np.array(times, np.float32) / t1[..., None]))
    path = save_images(tmp_path / "ir.nii.gz", images, "InversionTime", times)
    run(path, tmp_path, magnitude=True)
    found = nibabel.load(tmp_path / "predict" / "ir" / "T1map.nii.gz").get_fdata()
    np.testing.assert_allclose(found, t1, rtol=1e-3)


def test_a_t2star_map_has_its_own_name_and_names_keep_their_dots(tmp_path):
    t2 = np.linspace(0.02, 0.08, 24, dtype=np.float32).reshape(4, 3, 2)
    times = [0.005, 0.01, 0.02, 0.04]
    images = 500 * np.exp(-np.array(times, np.float32) / t2[..., None])
    path = save_images(tmp_path / "gre.v1.nii.gz", images, "EchoTime", times)
    run(path, tmp_path, model="t2star")
    folder = tmp_path / "predict" / "gre.v1"
    found = nibabel.load(folder / "T2starmap.nii.gz").get_fdata()
    np.testing.assert_allclose(found, t2, rtol=1e-3)
    assert not (folder / "T2map.nii.gz").exists()


def test_too_small_a_centre_for_sensitivities_says_what_to_do(tmp_path):
    kspace, *_ = toy_slices(center_fraction=0.1, limit=1)
    path = save_scan(tmp_path / "thin.npz", kspace=kspace)
    with pytest.raises(ValueError, match="fully sampled centre is .* Give them in the"):
        run(path, tmp_path)


def test_times_in_milliseconds_are_refused(tmp_path):
    kspace, *_ = toy_slices(limit=1)
    path = tmp_path / "ms.npz"
    np.savez(path, kspace=kspace, te=1e3 * TIMES)
    with pytest.raises(ValueError, match="ms.npz.*milliseconds"):
        run(path, tmp_path)


def test_a_checkpoint_that_is_none_is_named(scan, tmp_path):
    path, *_ = scan
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(path, tmp_path, checkpoint=str(tmp_path / "nowhere"))


def test_signed_and_absolute_inversion_recovery_are_told_apart(tmp_path):
    times = [0.05, 0.2, 0.5, 1.0, 2.0, 4.0]
    signed = np.ones((4, 3, 2, 1)) * (1 - 2 * np.exp(-np.array(times)))
    signed = signed.astype(np.float32)
    path = save_images(tmp_path / "abs.nii.gz", abs(signed), "InversionTime", times)
    with pytest.raises(ValueError, match="without negative values.*magnitude=True"):
        run(path, tmp_path)
    path = save_images(tmp_path / "signed.nii.gz", signed, "InversionTime", times)
    with pytest.raises(ValueError, match="with negative values.*magnitude=False"):
        run(path, tmp_path, magnitude=True)
    run(path, tmp_path)
    found = nibabel.load(tmp_path / "predict" / "signed" / "T1map.nii.gz").get_fdata()
    np.testing.assert_allclose(found, 1, rtol=1e-3)


def test_slices_outside_the_head_are_empty_maps(tmp_path):
    times = [0.01, 0.03, 0.05, 0.08]
    images = np.ones((4, 5, 3, 1)) * np.exp(-np.array(times) / 0.1)
    images[:, :, 0] = images[:, :, 2] = 0
    path = save_images(tmp_path / "a.nii.gz", images.astype("f4"), "EchoTime", times)
    run(path, tmp_path)
    found = load(tmp_path / "predict" / "a", "T2map")
    np.testing.assert_allclose(found[1], 0.1, rtol=1e-4)
    assert np.isnan(found[[0, 2]]).all()


def test_a_slab_fills_the_devices(tmp_path):
    times = [0.01, 0.03, 0.05, 0.08]
    t2 = np.linspace(0.05, 0.2, 60, dtype=np.float32).reshape(4, 5, 3)
    images = np.exp(-np.array(times, np.float32) / t2[..., None])
    path = save_images(tmp_path / "a.nii.gz", images, "EchoTime", times)
    run(path, tmp_path, devices=2, slab=1)
    found = nibabel.load(tmp_path / "predict" / "a" / "T2map.nii.gz").get_fdata()
    np.testing.assert_allclose(found, t2, rtol=1e-4)


def test_models_and_options_of_another_contrast_are_refused(scan, tmp_path):
    path, *_ = scan
    with pytest.raises(ValueError, match="'t1_ir' is none of a t2 scan"):
        run(path, tmp_path, model="t1_ir")
    with pytest.raises(ValueError, match="slab 0: expected at least 1"):
        run(path, tmp_path, slab=0)
    with pytest.raises(ValueError, match="magnitude is of images"):
        run(path, tmp_path, magnitude=True)
    kspace, *_ = toy_slices(limit=1)
    other = tmp_path / "angles.npz"
    np.savez(other, kspace=kspace, fa=TIMES + 0.05)
    with pytest.raises(ValueError, match="flip angles without a repetition time"):
        run(other, tmp_path)


def test_errors_name_the_slice(scan, tmp_path):
    kspace, *_ = toy_slices(limit=1)
    noise = np.zeros((kspace.shape[2], 50), np.complex64)
    path = save_scan(tmp_path / "quiet.npz", kspace=kspace, noise=noise)
    with pytest.raises(ValueError, match="quiet.npz, slice 0: noise"):
        run(path, tmp_path)

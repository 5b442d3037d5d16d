"""From a file to maps: what a person runs on a scan of their own."""

import json

import jax
import nibabel
import numpy as np
import pytest

from medjax.mri.catalogue import signal_model
from medjax.mri.fit import FitStatus, fit_map
from medjax.mri.sense import sense_forward
from medjax.recipes.qmri.calibrated import document, shipped
from medjax.recipes.qmri.options import read_definition
from medjax.recipes.qmri.predict import predict
from medjax.recipes.qmri.setup import make_estimator
from medjax.report.page import write_file
from medjax.runtime.checkpoint import open_checkpoints, save
from medjax.sharding import make_mesh
from medjax.systems.puq.calibration import Calibration, Protocol
from medjax.systems.puq.joint_tv import NETWORK_FEATURES
from medjax.systems.puq.reconstruction import init_params
from medjax.types import TrainState
from tests.data.qmri.toy_head import ACQUISITION
from tests.recipes.puq_smoke import save_scan, sections, toy_slices

T2 = signal_model("t2")
TIMES = np.array(ACQUISITION.protocol.times)


def run(path, workdir, *, checkpoint=None, devices=1, arg="", more=None, **changes):
    mesh = make_mesh({"data": devices}, jax.devices()[:devices])
    return predict(
        str(path),
        checkpoint=checkpoint,
        workdir=workdir,
        seed=0,
        mesh=mesh,
        rules={"batch": ("data",)},
        **sections(
            arg, **{f"predict__{k}": v for k, v in changes.items()}, **(more or {})
        ),
    )


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


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


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Two slices with lines to hold out, and what is true of them."""
    kspace, target, sens, roi = toy_slices(limit=2, acceleration=2.0)
    folder = tmp_path_factory.mktemp("lines")
    path = save_scan(folder / "lines.npz", kspace=kspace, sens=sens)
    truth = fit_map(np.moveaxis(target, 1, 0), TIMES, model=T2, bounds=(0.01, 2.0))
    return path, np.asarray(truth.params["t2"]), roi


def test_maps_of_joint_tv_have_intervals_and_regions(lines, tmp_path, capsys):
    path, truth, roi = lines
    labels = np.where(roi & (truth < 0.2), 3, 0) + np.where(roi & (truth >= 0.2), 8, 0)
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "names.tsv").write_text("index\tname\n3\ttissue\n")
    more = {"labels": str(tmp_path / "labels.npy"), "replicas": 8, "strict": False}
    more |= {"label_names": str(tmp_path / "names.tsv")}
    run(path, tmp_path, **{"methods__joint TV__iterations": 40}, **more)
    folder = tmp_path / "predict" / "lines"
    found, low, high, mean, sd, against = (
        load(folder, name)
        for name in ("T2map", "T2low", "T2high", "T2mean", "T2sigma", "distrust")
    )
    tissue = roi & (truth < 0.2) & (against == 0)
    assert tissue.sum() > 300
    assert np.median(abs(found / truth - 1)[tissue]) < 0.1
    # mostly inside; the shipped calibration is of larger images
    assert np.mean(((low <= truth) & (truth <= high))[tissue]) > 0.8
    ordered = (low < found) & (found < high) & (low < mean) & (sd > 0)
    assert ordered[tissue].all()
    sidecar = json.loads((folder / "T2low.json").read_text())
    assert sidecar["Quantile"] == 0.025 and sidecar["Units"] == "s"
    assert sidecar["EstimationAlgorithm"] == "joint TV, t2 posterior"
    assert "flat in log T" in sidecar["Posterior"]["Prior"]
    assert sidecar["Posterior"]["Uncertainty"]["Reconstruction"] == "joint TV"
    chosen = sidecar["Regularisation"]
    assert len(chosen["Weights"]) == 2 and min(chosen["Weights"]) > 0
    assert (
        "25 % of the lines outside the middle 8, held out 1 times" in chosen["ChosenBy"]
    )
    median = json.loads((folder / "T2map.json").read_text())
    assert median["Statistic"] == "median of the posterior"
    levels = json.loads((folder / "distrust.json").read_text())["Levels"]
    assert levels["0"] == "no reason found" and levels["1"] == "no signal"
    told = summary(folder)
    assert told["posterior"]["Regularisation"] == chosen
    assert 0 < told["posterior"]["median_half_width_ms"] < 100
    assert "regions.tsv" in told["files"]
    rows = [
        line.split("\t") for line in (folder / "regions.tsv").read_text().split("\n")
    ]
    assert rows[1][:2] == ["3", "tissue"] and rows[2][:2] == ["8", "n/a"]
    mean_ms, low_ms, high_ms = (float(rows[1][n]) for n in (5, 7, 8))
    inside = labels == 3
    assert mean_ms == pytest.approx(1e3 * np.nanmean(found[inside]), rel=1e-3)
    assert low_ms < 1e3 * truth[inside].mean() < high_ms
    assert float(rows[1][9]) < inside.sum()  # voxels err together
    said = capsys.readouterr().out
    assert "tissue: mean" in said and "95 % intervals: median half-width" in said


def test_labels_on_another_grid_stop_before_anything_is_made(lines, tmp_path):
    path, truth, _ = lines
    np.save(tmp_path / "labels.npy", np.ones(truth[:1].shape, int))
    with pytest.raises(ValueError, match="predict.labels: .*expected the scan's"):
        run(path, tmp_path, labels=str(tmp_path / "labels.npy"))
    assert not (tmp_path / "predict").exists()


def test_a_method_can_be_named_and_an_unknown_one_is_refused(scan, tmp_path):
    path, *_ = scan
    run(path, tmp_path, method="zero-filled")
    folder = tmp_path / "predict" / "head"
    assert "zero-filled" in (folder / "T2map.json").read_text()
    with pytest.raises(ValueError, match="'GRAPPA': expected one of .*CG-SENSE"):
        run(path, tmp_path, method="GRAPPA", overwrite=True)


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
    with pytest.raises(FileExistsError, match="summary.json exists"):
        run(path, tmp_path, method="CG-SENSE")
    assert (tmp_path / "predict" / "head" / "T2map.nii.gz").read_bytes() == before
    run(path, tmp_path, method="CG-SENSE", overwrite=True)
    assert (tmp_path / "predict" / "head" / "T2map.nii.gz").read_bytes() != before


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_what_an_earlier_run_wrote_goes_with_it_and_nothing_else(tmp_path, capsys):
    times = [0.005, 0.01, 0.02, 0.04]
    decay = 500 * np.exp(-np.array(times) / 0.03)
    path, folder = tmp_path / "gre.nii.gz", tmp_path / "predict" / "gre"

    def save(slices, last=1):
        images = np.ones((4, 3, slices, 1)) * decay
        images[:, :, -1, 0] *= last
        save_images(path, images.astype(np.float32), "EchoTime", times)

    save(5)
    run(path, tmp_path, model="t2star")
    assert {"T2starmap.nii.gz", "figures/slice_004.png"} <= files(folder)
    assert files(folder) == {*summary(folder)["files"], "summary.json"}
    for name in ("notes.txt", "figures/slice_009.png", "T2map_smooth.nii.gz"):
        (folder / name).write_text("mine")
    (folder / "figures" / "slice_003.png").write_text("annotated")
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    save(2)
    with pytest.raises(FileExistsError):
        run(path, tmp_path)
    save(2, last=0)
    with pytest.raises(ValueError, match="slice 1: the image of phase 0 .* is empty"):
        run(path, tmp_path, overwrite=True, slab=1)
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
    capsys.readouterr()
    save(2)
    run(path, tmp_path, overwrite=True)
    ours = {*summary(folder)["files"], "summary.json"}
    assert {"T2map.nii.gz", "figures/slice_000.png", "figures/slice_001.png"} < ours
    kept = {"notes.txt", "figures/slice_009.png", "T2map_smooth.nii.gz"}
    assert files(folder) == ours | kept | {"figures/slice_003.png"}
    for name in (*kept, "figures/slice_003.png"):
        assert (folder / name).read_bytes() == before[name]
    assert "changed since, so not removed: figures/slice_003" in capsys.readouterr().out


def test_what_a_run_that_ended_halfway_left_goes_with_the_next(tmp_path, monkeypatch):
    times = [0.005, 0.01, 0.02, 0.04]
    decay = 500 * np.exp(-np.array(times) / 0.03)
    path, folder = tmp_path / "gre.nii.gz", tmp_path / "predict" / "gre"

    def save(slices):
        images = (np.ones((4, 3, slices, 1)) * decay).astype(np.float32)
        save_images(path, images, "EchoTime", times)

    save(3)
    run(path, tmp_path, model="t2star")
    save(5)
    drawn = []

    def dies(path, figure):
        if len(drawn) == 4:
            raise OSError("no room")
        drawn.append(write_file(path, figure))

    with monkeypatch.context() as patch:
        patch.setattr("medjax.recipes.qmri.summary.write_file", dies)
        with pytest.raises(OSError, match="no room"):
            run(path, tmp_path, overwrite=True)
    left = files(folder)
    assert {"T2map.nii.gz", "T2starmap.nii.gz", "figures/slice_003.png"} < left
    assert left == {*summary(folder)["files"], "summary.json"}
    assert summary(folder)["voxels"] == 60
    save(1)
    run(path, tmp_path, overwrite=True)
    assert files(folder) == {*summary(folder)["files"], "summary.json"}
    assert not {"T2starmap.nii.gz", "figures/slice_003.png"} & files(folder)


def test_a_summary_alone_is_not_overwritten(tmp_path):
    images = np.ones((4, 3, 2, 3), np.float32) * [3, 2, 1]
    path = save_images(tmp_path / "a.nii.gz", images, "EchoTime", [0.01, 0.03, 0.05])
    folder = tmp_path / "predict" / "a"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("mine")
    with pytest.raises(FileExistsError, match="summary.json exists; .*overwrite"):
        run(path, tmp_path)
    assert files(folder) == {"summary.json"}


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
    run(path, tmp_path, slab=2, model="t2")
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


def test_a_posterior_of_images_covers_by_the_noise_that_is_known(tmp_path):
    """T2 drawn from the prior, so that intervals cover as often as they say."""
    rng = np.random.default_rng(0)
    times = np.array([0.01, 0.03, 0.05, 0.08, 0.12])
    t2 = np.exp(rng.uniform(np.log(0.02), np.log(2.0), (24, 24, 2)))
    images = 100 * np.exp(-times / t2[..., None]) + rng.normal(0, 2, (*t2.shape, 5))
    floor = images.min()
    path = save_images(tmp_path / "a.nii.gz", images.astype("f4"), "EchoTime", times)
    more = {"model": "t2", "fit": "posterior", "strict": False}
    np.save(tmp_path / "labels.npy", np.ones((2, 24, 24), int))
    run(path, tmp_path, labels=str(tmp_path / "labels.npy"), **more)
    assert floor < 0  # signed: no level is found in a background
    folder = tmp_path / "predict" / "a"
    low, high, against = (load(folder, x) for x in ("T2low", "T2high", "distrust"))
    truth = np.moveaxis(t2, -1, 0)
    judged = against != 1
    # 1100 voxels know a share of 0.95 to 0.007; u is known to some per cent
    share = np.mean(((low <= truth) & (truth <= high))[judged])
    assert share == pytest.approx(0.95, abs=0.03)
    assert (folder / "regions.tsv").exists()
    text = json.loads((folder / "T2map.json").read_text())["EstimationAlgorithm"]
    assert text == "images as they are, t2 posterior, noise by residuals of each slice"


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


def test_a_t2star_map_is_not_bound_as_a_t2_map_is(tmp_path):
    """Of the liver with iron: 1.5 ms; the config's T2 is 10 ms at least."""
    t2 = np.linspace(0.0005, 0.003, 24, dtype=np.float32).reshape(4, 3, 2)
    times = [0.001, 0.002, 0.003, 0.004, 0.006]
    images = 500 * np.exp(-np.array(times, np.float32) / t2[..., None])
    path = save_images(tmp_path / "liver.nii.gz", images, "EchoTime", times)
    run(path, tmp_path, model="t2star")
    found = nibabel.load(tmp_path / "predict" / "liver" / "T2starmap.nii.gz")
    np.testing.assert_allclose(found.get_fdata(), t2, rtol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"SeriesDescription": "mp2rage"}, "an MP2RAGE measurement"),
    ],
)
def test_protocols_that_no_model_takes_are_named(tmp_path, fields, message):
    path = save_images(
        tmp_path / "a.nii.gz",
        np.ones((4, 4, 2, 3), np.float32),
        "InversionTime",
        [0.1, 1, 2],
    )
    sidecar = {"InversionTime": [0.1, 1.0, 2.0], **fields}
    (tmp_path / "a.json").write_text(json.dumps(sidecar))
    with pytest.raises(ValueError, match=message):
        run(path, tmp_path, magnitude=True)


def test_what_was_left_out_is_printed(tmp_path, capsys):
    for e, te in enumerate([0.01, 0.03, 0.08]):
        image = np.full((4, 4, 2), np.exp(-te / 0.08), np.float32)
        save_images(tmp_path / f"e{e}.nii.gz", image, "EchoTime", [te])
        (tmp_path / f"e{e}.json").write_text(json.dumps({"EchoTime": te}))
    save_images(tmp_path / "map.nii.gz", image, "EchoTime", [0.01])
    derived = {"EchoTime": 0.01, "ImageType": ["DERIVED", "PRIMARY", "T2 MAP"]}
    (tmp_path / "map.json").write_text(json.dumps(derived))
    run(tmp_path, tmp_path)
    folder = tmp_path / "predict" / tmp_path.name
    found = nibabel.load(folder / "T2map.nii.gz").get_fdata()
    np.testing.assert_allclose(found, 0.08, rtol=1e-3)  # 255 ms with the map in it
    assert "left out, derived: map.nii.gz" in capsys.readouterr().out


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


@pytest.mark.parametrize("where", [0, 1, 3])
def test_an_empty_slice_of_kspace_leaves_the_others_alone(scan, tmp_path, where):
    path, *_ = scan
    with np.load(path) as arrays:
        kspace = arrays["kspace"]
    stack = np.insert(kspace, where, 0, axis=0)
    assert run(path, tmp_path) == []
    (warning,) = run(save_scan(tmp_path / "stack.npz", kspace=stack), tmp_path)
    assert f"stack.npz: slices without signal: {where};" in warning
    plain, folder = tmp_path / "predict" / "head", tmp_path / "predict" / "stack"
    for name in ("T2map", "T2sigma", "M0map", "residual", "rsquared", "status"):
        found = load(folder, name)
        others = np.delete(found, where, axis=0)
        np.testing.assert_allclose(others, load(plain, name), rtol=1e-5)
        empty = FitStatus.NO_SIGNAL if name == "status" else np.nan
        np.testing.assert_array_equal(found[where], np.full((32, 32), empty))
    assert summary(folder)["slices_without_signal"] == [where]
    assert summary(folder)["voxels"] == summary(plain)["voxels"]
    figures = {p.name for p in (folder / "figures").iterdir()}
    assert figures == {f"slice_{z:03d}.png" for z in range(4) if z != where}


def test_a_slice_beside_the_given_sensitivities_is_empty(tmp_path):
    kspace, _, sens, _ = toy_slices(limit=2)
    sens[1] = 0
    path = save_scan(tmp_path / "a.npz", kspace=kspace, sens=sens)
    run(path, tmp_path, method="CG-SENSE")
    assert summary(tmp_path / "predict" / "a")["slices_without_signal"] == [1]


def test_a_file_of_zeros_is_refused(tmp_path):
    kspace, *_ = toy_slices(limit=2)
    path = save_scan(tmp_path / "nothing.npz", kspace=0 * kspace)
    with pytest.raises(ValueError, match=r"nothing.npz: k-space .*all of 2 slices"):
        run(path, tmp_path)
    images = np.zeros((4, 3, 2, 3), np.float32)
    path = save_images(tmp_path / "black.nii.gz", images, "EchoTime", [0.01, 0.03, 0.1])
    with pytest.raises(ValueError, match=r"black.nii.gz: images are 0 everywhere"):
        run(path, tmp_path)
    assert not (tmp_path / "predict").exists()


def test_the_sign_is_looked_for_where_there_is_signal(tmp_path):
    times = [0.05, 0.2, 0.5, 1.0, 2.0, 4.0]
    images = np.ones((4, 3, 3, 1)) * np.abs(1 - 2 * np.exp(-np.array(times)))
    images[:, :, 1] = 0
    images = images.astype(np.float32)
    path = save_images(tmp_path / "ir.nii.gz", images, "InversionTime", times)
    with pytest.raises(ValueError, match="without negative values.*magnitude=True"):
        run(path, tmp_path)


def save_run(workdir, arg, **changes):
    """A run's folder as `run_stages` leaves it, its network untrained."""
    chosen = sections(arg, **changes)
    key = jax.random.key(0)
    params = init_params(make_estimator(read_definition(chosen)), key)
    state = TrainState(params, (), np.int32(1))
    about = {"root": key, "position": "{}", "identity": {}, "counters": {}}
    with open_checkpoints(workdir / "fit" / "checkpoints", keep=1) as manager:
        save(manager, 1, state, **about)
    start = {"stage": "fit", "config": chosen}
    (workdir / "fit" / "manifest.json").write_text(json.dumps([start]))
    return str(workdir)


@pytest.mark.parametrize("fit", ["plain", "puq"])
def test_a_checkpoint_brings_its_network_along(scan, tmp_path, capsys, fit):
    """Whatever the config has where nobody asked, maps are those of the trained one."""
    path, *_ = scan
    more = {"data__times": TIMES.tolist(), "network__dropout": 0.3}
    checkpoint = save_run(tmp_path / "run", "form=puq", **more)
    how = {"checkpoint": checkpoint, "fit": fit, "passes": 3}
    run(path, tmp_path / "repeated", arg="form=puq", more=more, **how)
    assert "manifest" not in capsys.readouterr().out
    run(path, tmp_path / "plain", **how)
    said = capsys.readouterr().out
    assert "as its manifest says, network.consistency 'hard', not 'cg'" in said
    assert "network.dropout 0.3, not 0.1" in said
    for name in ("T2map", "T2sigma", "status"):
        one, other = (
            load(tmp_path / x / "predict/head", name) for x in ("repeated", "plain")
        )
        # How far its loops are unrolled is the config's, and moves rounding.
        np.testing.assert_allclose(one, other, rtol=1e-5)
    with pytest.raises(ValueError, match=r"network.stages 7 \(trained: 5\)"):
        run(path, tmp_path / "asked", more={"network__stages": 7}, **how)
    named = {"more": {"network__stages": 7}, "method": "CG-SENSE"}
    run(path, tmp_path / "asked", **named, **(how | {"fit": "plain"}))
    with pytest.raises(ValueError, match="'puq' is of a network's images, and no"):
        run(path, tmp_path / "asked", **named, **(how | {"fit": "puq"}))


def test_a_network_that_predicts_lines_worse_is_not_used(lines, tmp_path, capsys):
    """An untrained one, which is asked for by no fit of its own."""
    path, *_ = lines
    checkpoint = save_run(tmp_path / "run", "", data__times=TIMES.tolist())
    run(path, tmp_path, checkpoint=checkpoint, strict=False)
    folder = tmp_path / "predict" / "lines"
    told = summary(folder)
    found = told["held_out_lines"]
    assert found["joint_tv"] < found["network"] and found["slices"] == [0, 1]
    assert told["method"] == "joint TV, t2 posterior"
    said = capsys.readouterr().out
    assert "lines held out of slices 0, 1 are missed by" in said
    assert "joint TV is used" in said
    assert (folder / "T2low.nii.gz").exists()
    run(path, tmp_path, checkpoint=checkpoint, fit="weighted", overwrite=True)
    assert "network of" in summary(folder)["method"]
    assert "held_out_lines" not in summary(folder)
    assert not (folder / "T2low.nii.gz").exists()


def test_a_posterior_of_a_network_s_images_is_by_its_own_calibration(lines, tmp_path):
    path, *_ = lines
    checkpoint = save_run(tmp_path / "run", "", data__times=TIMES.tolist())
    how = {"checkpoint": checkpoint, "fit": "posterior", "strict": False, "passes": 3}
    made = Calibration(
        reconstruction="network",
        protocol=Protocol("t2", tuple(TIMES.tolist()), 2.0, 3),
        features=NETWORK_FEATURES,
        exponents=(0.1, 0.0, 0.7, 0.2),  # dropout moves nothing untrained
        level=-2.0,
        rate=0.0,
        accelerations=(2.0,),
        kappa=(1.0,),
        coverage=0.95,
    )
    widths = []
    for level in (-2.0, -1.0):
        file = tmp_path / f"{level}.json"
        file.write_text(json.dumps(document(made._replace(level=level))))
        folder = tmp_path / f"at{level}"
        run(path, folder, calibration=str(file), **how)
        folder = folder / "predict" / "lines"
        low, middle, high = (load(folder, n) for n in ("T2low", "T2map", "T2high"))
        known = np.isfinite(middle)
        assert known.any() and (low <= middle)[known].all()
        assert (middle <= high)[known].all()
        widths.append(np.median((high - low)[known]))
    assert widths[1] > 1.5 * widths[0]
    told = summary(folder)
    assert told["method"].startswith("network of") and "posterior" in told["method"]
    assert told["posterior"]["Posterior"]["Uncertainty"]["Reconstruction"] == "network"
    assert "held_out_lines" not in told
    for change, message in (
        ({"passes": 1}, "needs at least 2"),
        ({"calibration": str(shipped("t2", "joint TV"))}, "expected one of t2 and net"),
    ):
        with pytest.raises(ValueError, match=message):
            run(path, tmp_path / "no", **({"calibration": str(file)} | how | change))


def test_a_regressor_s_map_is_the_same_by_another_name(scan, tmp_path):
    """Its numbers are shares of the bound of training, and not of T2*'s."""
    path, *_ = scan
    checkpoint = save_run(tmp_path / "run", "form=puq", data__times=TIMES.tolist())
    how = {"checkpoint": checkpoint, "fit": "puq", "passes": 3}
    run(path, tmp_path / "t2", **how)
    run(path, tmp_path / "star", **how, model="t2star")
    t2 = load(tmp_path / "t2/predict/head", "T2map")
    star = load(tmp_path / "star/predict/head", "T2starmap")
    np.testing.assert_allclose(star, t2, rtol=1e-5)


def test_empty_slices_beside_a_network(scan, tmp_path):
    path, *_ = scan
    with np.load(path) as arrays:
        kspace = arrays["kspace"]
    checkpoint = save_run(tmp_path / "run", "", data__times=TIMES.tolist())
    stack = np.concatenate([kspace, 0 * kspace[:1]])
    run(path, tmp_path, checkpoint=checkpoint)
    run(save_scan(tmp_path / "z.npz", kspace=stack), tmp_path, checkpoint=checkpoint)
    one, more = (load(tmp_path / "predict" / x, "T2map") for x in ("head", "z"))
    np.testing.assert_allclose(more[:3], one, rtol=1e-5)
    assert np.isnan(more[3]).all()


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


def test_what_the_reader_doubts_makes_the_maps_doubtful(tmp_path):
    for e, te in ((2, 0.02), (1, 0.04), (3, 0.08)):  # named against their times
        image = 500 * np.exp(-te / 0.08) * np.ones((4, 4, 1, 1))
        path = tmp_path / f"sub-01_echo-{e}_MEGRE.nii.gz"
        save_images(path, image, "EchoTime", [te])
        path.with_name(f"sub-01_echo-{e}_MEGRE.json").write_text(
            json.dumps({"EchoTime": te})
        )
    (warning,) = run(tmp_path, tmp_path / "out")
    assert "numbers in the names do not rise" in warning and "doubt: " not in warning


def test_a_model_that_does_not_fit_is_said_and_kept_and_the_code_can_be_off(
    tmp_path, capsys
):
    times = [0.01, 0.03, 0.05, 0.08]
    decay = 500 * np.exp(-np.array(times) / 0.08) * [0.8, 1, 1, 1]
    images = np.linspace(1, 2, 100).reshape(10, 10, 1, 1) * decay
    images = images.astype(np.float32)
    path = save_images(tmp_path / "a.nii.gz", images, "EchoTime", times)
    lines = run(path, tmp_path)
    assert "t2 does not fit: contrasts 0" in lines[0]
    found = summary(tmp_path / "predict" / "a")
    assert found["warnings"] == lines and found["residual"]["share"][0] < -0.05
    assert found["median_r_squared"] > 0.5 and found["share_failed"] == 0
    capsys.readouterr()
    assert run(path, tmp_path, strict=False, overwrite=True) == []
    assert f"warning: {lines[0]}" in capsys.readouterr().out
    assert summary(tmp_path / "predict" / "a")["warnings"] == lines

"""The model of a scan: the least strict that its facts determine, and why."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.mri.catalogue import signal_model
from medjax.mri.fit import fit_map
from medjax.recipes.qmri.models import (
    BENDS,
    choose_model,
    widest_basis,
    widest_subspace,
)
from medjax.recipes.qmri.options import Predict, Subspace
from medjax.recipes.sections import read_section
from tests.recipes.puq_smoke import sections
from tests.recipes.qmri.phase_phantoms import INVERSIONS, coils, measure, recoveries
from tests.recipes.qmri.test_phases import MORE, error, found
from tests.recipes.qmri.test_predict import load, run, save_images, summary


def recovery(path, times, t1, *, efficiency=1.0, repetition=np.inf):
    """Signed images of one T1, as NIfTI with its TR."""
    times = np.array(times)
    signal = 1 - 2 * efficiency * np.exp(-times / t1) + np.exp(-repetition / t1)
    images = (500 * np.ones((3, 3, 2, 1)) * signal).astype(np.float32)
    return save_images(path, images, "InversionTime", times)


def with_repetition(path, value):
    sidecar = path.with_name("ir.json")
    text = sidecar.read_text().rstrip("}") + f', "RepetitionTime": {value}}}'
    sidecar.write_text(text)


TIMES = [0.05, 0.4, 1.1, 2.5]


@pytest.mark.parametrize(
    ("facts", "t1"),
    [({"repetition": 2.55}, 2.2), ({"efficiency": 0.8}, 1.0), ({"efficiency": 0.8}, 3)],
)
def test_inversions_are_taken_to_be_imperfect(tmp_path, facts, t1):
    path = recovery(tmp_path / "ir.nii.gz", TIMES, t1, **facts)
    run(path, tmp_path)
    folder = tmp_path / "predict" / "ir"
    np.testing.assert_allclose(load(folder, "T1map"), t1, rtol=2e-3)
    said = summary(folder)
    assert said["model"] == "t1_ir3" and "any TR" in said["model_reason"]


@pytest.mark.parametrize("model", ["", "t1_ir"])
def test_a_known_repetition_time_is_in_the_strict_model(tmp_path, model):
    times = TIMES if model else TIMES[:3]
    path = recovery(tmp_path / "ir.nii.gz", times, 2.2, repetition=3.0)
    with_repetition(path, 3.0)
    run(path, tmp_path, model=model)
    folder = tmp_path / "predict" / "ir"
    np.testing.assert_allclose(load(folder, "T1map"), 2.2, rtol=2e-3)
    said = summary(folder)
    assert said["model"] == "t1_ir" and "TR 3 s" in said["model_reason"]


def test_what_is_asked_for_and_what_is_trained_stays(tmp_path):
    path = recovery(tmp_path / "ir.nii.gz", TIMES, 1.0)
    scan = open_scan(path)
    options = read_section(Predict, "predict", sections()["predict"])
    asked = choose_model(scan, options._replace(model="t1_sr"))
    assert asked.model == signal_model("t1_sr") and "asks" in asked.reason
    plain = choose_model(scan, options._replace(model="t1_ir"))
    assert plain.model == signal_model("t1_ir") and "not known" in plain.reason
    assert choose_model(scan, options, trained=True).model == signal_model("t1_ir")


def test_the_subspace_keeps_imperfect_inversions():
    times = tuple(INVERSIONS.tolist())
    wider = widest_subspace(times, Subspace(3, 0.2, 5.0, 400))
    assert wider is not None and wider.rank == 5
    basis = widest_basis(times, wider)
    t1 = np.geomspace(0.2, 5.0, 30)
    for efficiency in (0.6, 0.8, 1.0):
        images = 1 - 2 * efficiency * np.exp(-INVERSIONS[:, None] / t1)
        bent = (basis @ (basis.T @ images)).astype(np.float32)
        fit = fit_map(bent, INVERSIONS, model=signal_model("t1_ir3"))
        np.testing.assert_allclose(fit.params["t1"], t1, rtol=1.2 * BENDS)
    assert widest_subspace(times[::2], Subspace(3, 0.2, 5.0, 400)) is None


def test_undersampled_recoveries_of_an_imperfect_inversion(tmp_path):
    images, t1 = recoveries(efficiency=0.8)
    path, sens = tmp_path / "scan.npz", coils()[None].astype(np.complex64)
    kspace = measure(images, acceleration=2)
    np.savez(path, kspace=kspace, ti=INVERSIONS, sens=sens)
    more = {"methods__joint TV__iterations": 80, "strict": False}
    run(path, tmp_path, arg="contrast=t1", **more)
    values, method = found(tmp_path, "T1map")
    assert "joint TV of rank 5, t1_ir3" in method
    assert abs(error(values, t1)) < 0.02
    few = INVERSIONS[::2]
    np.savez(path, kspace=kspace[:, ::2], ti=few, sens=sens)
    run(path, tmp_path, arg="contrast=t1", overwrite=True, **MORE)
    assert "locally low rank, t1_ir3 fit" in found(tmp_path, "T1map")[1]
    with pytest.raises(ValueError, match="4 inversion times.*: CG-SENSE, locally low"):
        run(path, tmp_path, arg="contrast=t1", method="subspace")


def test_first_echoes_can_be_left_out(tmp_path):
    times = np.array([0.03, 0.01, 0.05, 0.08, 0.12])
    signal = np.exp(-times / 0.08)
    signal[1] *= 0.8  # of the shortest echo time
    images = (np.ones((3, 3, 2, 1)) * signal).astype(np.float32)
    path = save_images(tmp_path / "a.nii.gz", images, "EchoTime", times)
    run(path, tmp_path, skip=1)
    folder = tmp_path / "predict" / "a"
    np.testing.assert_allclose(load(folder, "T2map"), 0.08, rtol=1e-4)
    for count in (-1, 4):
        with pytest.raises(
            ValueError, match=f"predict.skip {count}; expected 0, or up"
        ):
            run(path, tmp_path, skip=count, overwrite=True)

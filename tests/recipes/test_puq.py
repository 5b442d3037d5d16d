"""The stages that `configs/puq.py` asks for, and a whole small run of them."""

import json

import jax
import numpy as np
import pytest

from medjax.recipes.puq import stages
from medjax.runtime import checkpoint
from medjax.runtime.naming import differences
from medjax.runtime.stages import evaluate_checkpoint, run_stages
from medjax.sharding import make_mesh
from tests.recipes.puq_smoke import WHERE, sections

MESH = {
    "mesh": make_mesh({"data": 1}, jax.devices()[:1]),
    "rules": {"batch": ("data",)},
}


@pytest.fixture(scope="module", autouse=True)
def standard_promotion():
    """optax raises floats to int32 counts, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_reconstruction_then_fit():
    first, between, second = stages(**WHERE, **sections())
    names = [stage.name for stage in (first, between, second)]
    assert names == ["reconstruction", "calibration", "fit"]
    assert first.identity["data"] == second.identity["data"]
    one, two = (next(iter(stage.source)) for stage in (first, second))
    assert one.kspace.shape == two.kspace.shape == (2, 8, 3, 32, 32)
    assert not np.array_equal(one.kspace, two.kspace)  # other draws


def test_the_factor_is_counted_on_slices_of_validation_subjects():
    all_slices = {"fit__calibration__slices": 3, "train__evaluate_limit": 0}
    first, between, _ = stages(**WHERE, **sections(**all_slices))
    assert between.steps == 2  # batches of two
    drawn, training = (next(iter(x.source)).target for x in (between, first))
    validation = np.concatenate([b.target for b, _ in first.eval_batches()])

    def known(image):
        return any(np.allclose(image, x, atol=1e-6) for x in validation)

    assert all(map(known, drawn)) and not any(map(known, training))


def test_without_density_and_factor_a_run_is_that_of_older_versions():
    off = {"fit__categorical__bins": 0, "fit__calibration__slices": 0}
    first, last = stages(**WHERE, **sections(**off))
    assert (first.name, last.name) == ("reconstruction", "fit")
    assert "extras" not in first.identity
    shapes = jax.eval_shape(first.system.init, jax.random.key(0)).params
    assert set(shapes) == {"network", "regressors", "misfit"}
    assert last.accepts is not None
    last.accepts(json.loads(json.dumps(last.identity)))
    *_, whole = stages(**WHERE, **sections())
    assert whole.accepts is not None
    with pytest.raises(ValueError, match=r"no extras.*fit.categorical.bins=0"):
        whole.accepts(json.loads(json.dumps(last.identity)))
    whole.accepts(json.loads(json.dumps(whole.identity)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fit__categorical__bins": 3}, "bins 3, .* expected 8 bins or more"),
        ({"fit__calibration__factors": (2.0, 1.0)}, "expected 2 or more that rise"),
        ({"fit__calibration__coverage": 1.0}, "a coverage between 0 and 1"),
        ({"fit__calibration__slices": -1}, "expected 1 or more slices"),
    ],
)
def test_options_of_density_and_factor_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        stages(**WHERE, **sections(**change))


def test_a_network_in_another_subspace_is_another_run():
    chosen = sections()
    before = json.loads(json.dumps(stages(**WHERE, **chosen)[0].identity))
    chosen["network"]["subspace"]["high"] *= 2
    lines = differences(before, stages(**WHERE, **chosen)[0].identity)
    assert len(lines) == 1 and lines[0].startswith("subspace.high: ")


def test_validation_and_test_subjects_are_others():
    first, _, second = stages(**WHERE, **sections())
    chosen, tested = (
        {r.subject for _, records in stage.eval_batches() for r in records}
        for stage in (first, second)
    )
    assert chosen and tested and not chosen & tested
    for stage in (first, second):
        assert len(list(stage.eval_batches())) == stage.eval_total


def save_measured(path, times):
    """A measured slice as `data.qmri.invivo` reads it, made of a disc."""
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    disc = np.hypot(y, x) < 0.7
    t2 = np.where(disc, 0.1, 0.05)
    image = disc * np.exp(-np.array(times)[:, None, None] / t2)
    sens = np.stack([1 + 0.5 * x, 1 - 0.5j * x, 1 + 0.5j * y]).astype(np.complex64)
    sens /= np.sqrt((np.abs(sens) ** 2).sum(0))
    np.savez(
        path,
        image=image.astype(np.float32),
        sens=sens,
        t2=t2,
        pd=disc.astype(float),
        roi=disc,
        seed=7,
        te=np.array(times),
    )
    return path


def test_a_measured_slice_of_other_times_is_refused(tmp_path):
    path = save_measured(tmp_path / "slice.npz", np.linspace(0.01, 0.1, 8))
    *_, last = stages(**WHERE, **sections(evaluation__invivo=str(path)))
    with pytest.raises(ValueError, match=r"slice.npz: times .* expected those of the"):
        list(last.eval_batches())


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("puq")
    invivo = save_measured(
        workdir / "slice.npz", (0.0, 0.025, 0.035, 0.045, 0.065, 0.085, 0.105, 0.125)
    )
    found = sections(evaluation__invivo=str(invivo))
    made = stages(seed=0, workdir=workdir, **found)
    run_stages(
        made,
        seed=0,
        workdir=workdir,
        checkpoint_every=100,
        keep=1,
        on_nonfinite="stop",
        facts={},
        **MESH,
    )
    return workdir, made


def test_a_run_leaves_tables_maps_and_a_report(ran):
    workdir, _ = ran
    folder = workdir / "fit" / "eval" / "4"
    text = (folder / "tables.txt").read_text()
    first, second, *_ = text.split("\n\n")
    rows = [line.split("  ")[0] for line in first.splitlines()[4:]]
    line = first.splitlines()[1]  # says what is covered, which is far from 95 % here
    assert "times dropout's deviation, with which 95 % intervals on 2 slices" in line
    assert 0 <= float(line.split(" cover ")[1]) < 0.9
    assert "not reliable on measured data" in second and "measured" not in first
    assert rows == [
        "zero-filled",
        "CG-SENSE",
        "subspace",
        "subspace + wavelet",
        "locally low rank",
        "joint TV",
        "joint TV, posterior mean",
        "joint TV, posterior",
        "unrolled",
        "unrolled, weighted fit",
        "unrolled, posterior mean",
        "unrolled, posterior",
        "unrolled, categorical",
        "PUQ without guidance",
        "PUQ",
    ]
    assert "in vivo" in text
    lines = [json.loads(x) for x in (folder / "slices.jsonl").read_text().splitlines()]
    assert len(lines) == 5 * len(rows)  # 4 simulated slices and the measured one
    for name, slices in (("maps", 4), ("maps_in_vivo", 1)):
        with np.load(folder / f"{name}.npz") as arrays:
            assert arrays["map: PUQ"].shape == (slices, 32, 32)
            assert arrays["std"].shape == (slices, 8, 32, 32)
    assert (workdir / "fit" / "report.html").stat().st_size > 50_000
    names = {p.stem for p in (workdir / "fit" / "figures").iterdir()}
    assert {"maps_median", "maps_worst", "maps_in_vivo", "calibration"} <= names
    assert {"trust_median", "trust_worst", "trust_in_vivo", "intervals"} <= names
    text = (folder / "intervals.txt").read_text()
    assert "joint TV, posterior, simulated" in text and "in vivo" in text
    heads = text.splitlines()[1].split()
    assert heads[:4] == ["voxels", "50", "%", "80"]
    row = json.loads((workdir / "fit" / "eval.jsonl").read_text().splitlines()[-1])
    assert row["n"] == 5 and row["nrmse"] > 0


def test_evaluation_of_the_workdir_gives_the_same_scores(ran):
    workdir, (*_, last) = ran
    before = json.loads((workdir / "fit" / "eval.jsonl").read_text().splitlines()[-1])

    def no_folder(path, shardings):
        raise AssertionError(path)

    again = evaluate_checkpoint(
        last, workdir, load=no_folder, seed=0, workdir=workdir, **MESH
    )
    for name in ("nrmse", "tissue_ms", "image_nrmse: unrolled"):
        assert again[name] == pytest.approx(before[name], rel=1e-5)


def test_masks_are_the_config_s():
    first, *_ = stages(**WHERE, **sections(data__mask="poisson"))
    mask = next(iter(first.source)).mask
    assert mask.shape[1:] == (8, 32, 32)  # points, no lines
    assert 0.1 < mask.mean() < 0.25  # about a sixth


def test_a_broken_run_goes_on_bitwise(ran, tmp_path):
    """Stopped by a fault after the checkpoint of step 3, then started again."""
    whole = ran[0]
    found = sections(
        evaluation__invivo=str(whole / "slice.npz"), train__evaluate_every=3
    )
    first, *_ = stages(seed=0, workdir=tmp_path, **found)
    how = {"seed": 0, "workdir": tmp_path, "keep": 2, "on_nonfinite": "stop"}
    how |= {"checkpoint_every": 3, "facts": {}, **MESH}

    def fault(results, folder):
        raise OSError(f"no room for {folder}")

    with pytest.raises(OSError, match="no room for .*eval/3"):
        run_stages([first._replace(score=fault)], **how)
    state = run_stages([first], **how)
    stored = jax.tree.leaves(state.params)
    again = checkpoint.restore_params(
        whole / "reconstruction" / "checkpoints",
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state.params),
    )
    for mine, other in zip(stored, jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(mine, other)

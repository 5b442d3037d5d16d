"""Regions of a scan by name: a phantom of vials, its tables, and what is refused."""

import csv
import json

import nibabel
import numpy as np
import pytest

from tests.recipes.qmri.test_predict import run, summary

TIMES = np.array([0.01, 0.02, 0.04, 0.08, 0.16])
T2 = {2: 0.2, 5: 0.08, 9: 0.04}  # s, by label
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
SHAPE = (16, 12, 2)


def labels():
    """Three vials of 4 x 4 x 2 voxels, the last of them in one slice alone."""
    found = np.zeros(SHAPE, np.int16)
    for n, label in enumerate(T2):
        found[1 + 5 * n : 5 + 5 * n, 3:7] = label
    found[..., 1][found[..., 1] == 9] = 0
    return found


def save(path, values, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """(folder, times of each voxel): each vial rises by 1 % from voxel to voxel."""
    folder = tmp_path_factory.mktemp("phantom")
    where, t2 = labels(), np.full(SHAPE, 0.5)
    for label, value in T2.items():
        inside = where == label
        t2[inside] = value * (1 + 0.01 * np.arange(inside.sum()))
    images = 800 * np.exp(-TIMES / t2[..., None])
    save(folder / "phantom.nii.gz", images.astype(np.float32))
    (folder / "phantom.json").write_text(json.dumps({"EchoTime": TIMES.tolist()}))
    save(folder / "vials.nii.gz", where)
    (folder / "names.tsv").write_text("index\tname\n2\tlong\n5\tmiddle\n9\tshort\n")
    (folder / "reference.tsv").write_text(
        "name\treference\tunit\tsd\nlong\t210\tms\t2\nmiddle\t0.09\ts\t\n"
        "short\t40\tms\tn/a\n"
    )
    return folder, t2


def options(folder, **more):
    return {
        "labels": str(folder / "vials.nii.gz"),
        "label_names": str(folder / "names.tsv"),
        "model": "t2",
        "strict": False,
    } | more


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def mapped(phantom, tmp_path_factory):
    """(folder of the maps, times of each voxel)."""
    folder, t2 = phantom
    out = tmp_path_factory.mktemp("out")
    reference = str(folder / "reference.tsv")
    run(folder / "phantom.nii.gz", out, **options(folder, reference=reference))
    return out / "predict" / "phantom", t2


def test_every_map_has_a_table_by_region_and_slice(mapped):
    folder, t2 = mapped
    tables = {p.stem for p in (folder / "regions").iterdir()}
    assert tables == {"T2map", "T2sigma", "M0map", "M0sigma", "residual", "rsquared"}
    found = read(folder / "regions" / "T2map.csv")
    assert [(r["index"], r["name"], r["slice"], r["voxels"]) for r in found] == [
        ("2", "long", "all", "32"), ("2", "long", "0", "16"), ("2", "long", "1", "16"),
        ("5", "middle", "all", "32"), ("5", "middle", "0", "16"),
        ("5", "middle", "1", "16"), ("9", "short", "all", "16"),
        ("9", "short", "0", "16"),
    ]  # fmt: skip
    where = labels()
    for row in found:
        z = slice(None) if row["slice"] == "all" else int(row["slice"])
        inside = t2[..., z][where[..., z] == int(row["index"])]
        expected = {
            "median_ms": np.median(inside),
            "q25_ms": np.quantile(inside, 0.25),
            "q75_ms": np.quantile(inside, 0.75),
            "mean_ms": inside.mean(),
        }
        for name, value in expected.items():
            # noiseless; float32 and the fit's last step are left
            assert float(row[name]) == pytest.approx(1e3 * value, rel=1e-4)
        low, mean, high = (
            float(row[f"mean{end}_ms"]) for end in ("_low_95", "", "_high_95")
        )
        assert low <= mean <= high
    amplitude = read(folder / "regions" / "M0map.csv")
    assert float(amplitude[0]["median_arbitrary"]) == pytest.approx(800, rel=1e-4)
    assert amplitude[0]["mean_low_95_arbitrary"] != "n/a"  # M0sigma is known
    fit = read(folder / "regions" / "rsquared.csv")
    assert fit[0]["mean_low_95_ratio"] == "n/a" and float(fit[0]["median_ratio"]) > 0.99


def test_tables_of_one_map_say_the_same(mapped):
    folder, _ = mapped
    whole = list(csv.DictReader(
        (folder / "regions.tsv").read_text().splitlines(), delimiter="\t"
    ))  # fmt: skip
    rows = read(folder / "regions" / "T2map.csv")
    for one, row in zip(whole, (r for r in rows if r["slice"] == "all"), strict=True):
        for name in ("index", "name", "voxels", "median_ms", "mean_low_95_ms"):
            assert one[name] == row[name]


def test_vials_are_held_against_their_references(mapped):
    folder, t2 = mapped
    where = labels()
    rows = {row["name"]: row for row in read(folder / "vials.csv")}
    assert rows["long"]["reference_sd_ms"] == "2.000"
    assert rows["middle"]["reference_sd_ms"] == "n/a"
    apart = []
    for (label, _), name, known in zip(T2.items(), rows, (210, 90, 40), strict=True):
        median = 1e3 * np.median(t2[where == label])
        apart.append(median - known)
        assert float(rows[name]["reference_ms"]) == known
        assert float(rows[name]["difference_ms"]) == pytest.approx(apart[-1], abs=0.02)
        share = 100 * apart[-1] / known
        assert float(rows[name]["difference_percent"]) == pytest.approx(share, abs=0.02)
    agreement = summary(folder)["agreement"]["ms"]
    assert agreement["vials"] == 3
    assert agreement["bias"] == pytest.approx(np.mean(apart), abs=0.02)
    width = agreement["upper"] - agreement["lower"]
    assert width == pytest.approx(2 * 1.96 * np.std(apart, ddof=1), rel=1e-3)
    for name in ("lower", "bias", "upper"):
        low, high = (agreement[f"{name}_{end}_95"] for end in ("low", "high"))
        assert low < agreement[name] < high
    files = summary(folder)["files"]
    assert {"vials.csv", "regions/T2map.csv", "figures/agreement.png"} <= files.keys()


def test_a_mask_without_names_is_one_region(phantom, tmp_path):
    folder, _ = phantom
    save(tmp_path / "mask.nii.gz", (labels() > 0).astype(np.uint8))
    more = {"labels": str(tmp_path / "mask.nii.gz"), "label_names": ""}
    run(folder / "phantom.nii.gz", tmp_path, **options(folder, **more))
    out = tmp_path / "predict" / "phantom"
    rows = read(out / "regions" / "T2map.csv")
    assert [(r["name"], r["slice"], r["voxels"]) for r in rows] == [
        ("n/a", "all", "80"), ("n/a", "0", "48"), ("n/a", "1", "32")
    ]  # fmt: skip
    assert "regions" not in summary(out) and "agreement" not in summary(out)


def test_what_names_and_labels_do_not_share_is_named(phantom, tmp_path, capsys):
    folder, _ = phantom
    (tmp_path / "names.tsv").write_text("index\tname\n5\tmiddle\n7\tgone\n9\tshort\n")
    (tmp_path / "reference.tsv").write_text(
        "name\treference\tunit\nmiddle\t80\tms\ngone\t70\tms\n"
    )
    more = {"label_names": str(tmp_path / "names.tsv")}
    more["reference"] = str(tmp_path / "reference.tsv")
    run(folder / "phantom.nii.gz", tmp_path, **options(folder, **more))
    said = capsys.readouterr().out
    assert "labels without a name: 2\n" in said
    assert "names without a voxel: gone\n" in said
    assert "regions without a reference, not compared: 2, short\n" in said
    assert "without a value in the map: gone\n" in said
    assert "limits of agreement of 1 vials say little" in said
    told = summary(tmp_path / "predict" / "phantom")
    assert told["regions"] == {"unnamed_labels": [2], "unfilled_names": ["gone"]}
    assert told["agreement"]["ms"]["sd"] is None


@pytest.mark.parametrize(
    ("names", "reference", "message"),
    [
        ("1\ta\n3\tb\n", "", "none of its 2 indices is a label .* has 2, 5, 9"),
        ("2\tlong\n5\tmiddle\n", "lung\t80\tms\n", "lung stand for no region; .*long"),
        ("2\tvial\n5\tvial\n", "vial\t80\tms\n", "vial are names of several regions"),
        ("2\tlong\n7\tgone\n", "gone\t80\tms\n", "no vial of it has a voxel"),
        ("2\tlong\n", "long\t80\n", "line 2, column unit: empty"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(
    phantom, tmp_path, names, reference, message
):
    folder, _ = phantom
    (tmp_path / "names.tsv").write_text("index\tname\n" + names)
    more = {"label_names": str(tmp_path / "names.tsv")}
    if reference:
        (tmp_path / "reference.tsv").write_text("name\treference\tunit\n" + reference)
        more["reference"] = str(tmp_path / "reference.tsv")
    with pytest.raises(ValueError, match=message):
        run(folder / "phantom.nii.gz", tmp_path, **options(folder, **more))
    assert not (tmp_path / "predict").exists()


def test_references_without_names_or_labels_are_refused(phantom, tmp_path):
    folder, _ = phantom
    reference = str(folder / "reference.tsv")
    for more in ({"label_names": ""}, {"labels": "", "label_names": ""}):
        with pytest.raises(ValueError, match="of which voxels.*predict.label_names"):
            run(
                folder / "phantom.nii.gz",
                tmp_path,
                **options(folder, reference=reference, **more),
            )


def test_another_grid_is_refused_and_both_are_told(phantom, tmp_path):
    folder, _ = phantom
    moved = AFFINE.copy()
    moved[0, 3] = 1.0
    save(tmp_path / "moved.nii.gz", labels(), moved)
    save(tmp_path / "small.nii.gz", labels()[:-1])
    both = r"\[2 0 0 0; .*but its own is \[2 0 0 1; "
    for name, message in (
        ("moved", f"lie up to 1 mm from .*{both}"),
        ("small", r"\(2, 15, 12\) .*expected the scan's \(2, 16, 12\)"),
    ):
        more = {"labels": str(tmp_path / f"{name}.nii.gz")}
        with pytest.raises(ValueError, match=message):
            run(folder / "phantom.nii.gz", tmp_path, **options(folder, **more))
    assert not (tmp_path / "predict").exists()


def test_the_page_opens_with_what_happened(mapped):
    folder, _ = mapped
    text = (folder / "report.html").read_text()
    assert "report.html" in summary(folder)["files"]
    for part in ("What happened", "3 vials against their references", "Slice 1",
                 '<td data-head="median, ms">', "phantom.nii.gz: T2"):  # fmt: skip
        assert part in text
    assert str(folder.parent) not in text

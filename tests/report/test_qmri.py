"""Figures of maps: what is drawn, on which scale, and where nothing is."""

import subprocess
import sys

import numpy as np
import pytest

from medjax.report import qmri

LEVELS = {0: "converged", 6: "no signal", 7: "invalid"}


def case():
    """A map in seconds with a failed voxel, its region, and a status."""
    rng = np.random.default_rng(0)
    value = rng.uniform(0.05, 0.15, (12, 10))
    value[3, 4] = np.nan
    status = np.zeros((12, 10), np.int32)
    status[3, 4] = 7
    roi = np.zeros((12, 10), bool)
    roi[2:-2, 2:-2] = True
    return value, status, roi


def images(figure):
    return [axis.images[0] for axis in figure.axes if axis.images]


def test_a_map_in_milliseconds_on_a_fixed_scale():
    value, status, roi = case()
    figure = qmri.map_figure(
        value, 0.1 * value, status, contrast="t2", levels=LEVELS, roi=roi
    )
    first, sigma, states = images(figure)
    shown = first.get_array()
    assert shown[5, 5] == pytest.approx(1e3 * value[5, 5])
    assert first.get_clim() == (0, 200) and sigma.get_clim() == (0, 20)
    np.testing.assert_array_equal(shown.mask, ~roi | np.isnan(value))
    assert first.cmap(np.ma.masked)[:3] == (0, 0, 0)
    assert figure.axes[0].get_title() == "T2"
    # Two states occur, in two colours, each named with its share.
    texts = [t.get_text() for t in figure.axes[2].get_legend().get_texts()]
    assert texts == ["converged 99.2 %", "invalid 0.8 %"]
    colours = states.get_array().reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) == 2


@pytest.mark.parametrize("contrast", ["t1", "vfa"])
def test_t1_has_a_scale_of_its_own(contrast):
    value, _, _ = case()
    figure = qmri.map_figure(10 * value, None, None, contrast=contrast, levels=LEVELS)
    (image,) = images(figure)
    assert image.get_clim() == (0, 3000) and figure.axes[0].get_title() == "T1"


def test_quarter_turns():
    value, status, _ = case()
    figure = qmri.map_figure(value, None, status, contrast="t2", levels=LEVELS, turns=1)
    first, states = images(figure)
    np.testing.assert_array_equal(first.get_array().data, 1e3 * np.rot90(value))
    assert states.get_array().shape == (10, 12, 3)


def test_letters_of_the_patient_s_sides():
    """A marked voxel at the patient's left, front: letters follow it through turns."""
    oblique = np.eye(4)  # rows go to the left and a little up, columns to the back
    oblique[:3, :3] = [[-0.9, 0.1, 0], [0.1, -0.9, 0], [0.3, 0, 1]]
    assert qmri.edge_letters(oblique) == ("R", "P", "L", "A")
    assert qmri.edge_letters(np.eye(4)) == ("L", "A", "R", "P")
    sagittal = np.eye(4)[[2, 0, 1, 3]]  # rows to the front, columns upwards
    assert qmri.edge_letters(sagittal) == ("P", "S", "A", "I")
    for turns in range(-1, 5):
        mark = np.zeros((8, 6))
        mark[-1, 0] = 1  # bottom left: the patient's left and front
        row, column = np.argwhere(np.rot90(mark, turns))[0]
        shape = np.rot90(mark, turns).shape
        top, right, bottom, left = qmri.edge_letters(oblique, turns)
        there = {top if row == 0 else bottom, left if column == 0 else right}
        assert row in (0, shape[0] - 1) and column in (0, shape[1] - 1)
        assert there == {"L", "A"}
    value, _, _ = case()
    figure = qmri.map_figure(
        value, None, None, contrast="t2", levels=LEVELS, affine=oblique
    )
    texts = figure.axes[0].texts
    assert [t.get_text() for t in texts] == ["R", "P", "L", "A"]
    assert [t.get_position()[1] for t in texts][:3] == [0.95, 0.5, 0.05]


def test_methods_beside_the_reference():
    value, _, roi = case()
    value = np.where(np.isnan(value), 0.1, value)
    methods = {"wavelet": value + 0.01, "unrolled": value}
    figure = qmri.comparison_sheet(
        value, methods, contrast="t2", roi=roi, notes={"wavelet": "NRMSE 0.1"}
    )
    drawn = images(figure)
    assert len(drawn) == 5  # three maps, two errors
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["reference\n", "wavelet\nNRMSE 0.1", "unrolled\n"]
    errors = [image for image in drawn if image.get_clim() == (-25, 25)]
    assert len(errors) == 2
    np.testing.assert_allclose(errors[0].get_array().compressed(), 10)
    np.testing.assert_allclose(errors[1].get_array().compressed(), 0, atol=1e-12)
    np.testing.assert_array_equal(errors[0].get_array().mask, ~roi)
    with pytest.raises(ValueError, match="no methods"):
        qmri.comparison_sheet(value, {}, contrast="t2", roi=roi)
    with pytest.raises(ValueError, match=r"\['a'\].*\(12, 10\)"):
        qmri.comparison_sheet(value, {"a": value.T}, contrast="t2", roi=roi)


def test_calibration():
    levels = np.linspace(0.05, 0.95, 19)
    sigma = np.array([0.001, 0.01])
    figure = qmri.calibration_figure(
        {"a": (sigma, 2 * sigma, levels, levels), "b": (sigma, sigma, levels, levels)}
    )
    errors, coverage = figure.axes
    np.testing.assert_allclose(errors.lines[0].get_xydata(), [[1, 2], [10, 20]])
    assert errors.get_xlim() == errors.get_ylim() and errors.get_xlim()[1] > 20
    names = [t.get_text() for t in coverage.get_legend().get_texts()]
    assert names == ["a", "b"]
    unknown = np.full(2, np.nan)
    qmri.calibration_figure({"a": (unknown, unknown, levels, levels)})
    with pytest.raises(ValueError, match="no curves"):
        qmri.calibration_figure({})


@pytest.mark.parametrize("methods", [1, 4])
def test_labels_do_not_overlap(methods):
    value, _, roi = case()
    names = {f"method number {n}": value for n in range(methods)}
    notes = {name: "NRMSE 0.3027  SSIM 0.9752" for name in names}
    figure = qmri.comparison_sheet(
        value, names, contrast="t2", roi=roi, notes=notes, title="T2 of one subject"
    )
    figure.draw_without_rendering()
    boxes = [a.get_tightbbox() for a in figure.axes if a.axison]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])
    whole = figure.bbox
    assert all(b.x0 >= whole.x0 and b.x1 <= whole.x1 for b in boxes)


def test_nothing_is_left_to_import_for_a_figure():
    code = """
import io, sys
from medjax.report.page import png_bytes
from medjax.report.qmri import import_figures, map_figure
before = "matplotlib" in sys.modules
import_figures()
known = set(sys.modules)
import numpy as np
image = np.ones((4, 4), np.float32)
png_bytes(map_figure(image, image, None, contrast="t2", levels={}))
late = {n for n in set(sys.modules) - known if n.startswith("matplotlib.backends")}
print(before, sorted(late))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split(maxsplit=1) == ["False", "[]\n"], done.stderr


def test_png_is_written_whole(tmp_path):
    value, status, _ = case()
    figure = qmri.map_figure(value, None, status, contrast="t2", levels=LEVELS)
    path = qmri.write_png(tmp_path / "new" / "map.png", figure)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["map.png"]

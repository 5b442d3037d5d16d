"""Images that vendors scale by file come to one scale, or are refused."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan

TE = [0.01, 0.02, 0.04]
RS, SS = [2.0, 3.0, 5.0], [0.01, 0.02, 0.005]  # rescale and scale slopes
FLAG = "UsePhilipsFloatNotDisplayScaling"


def precise():
    """[E] x [4, 5, 2]: the values that are comparable."""
    decay = np.exp(-np.array(TE) / 0.05)
    return np.multiply.outer(decay, 1000 + np.arange(40.0).reshape(4, 5, 2))


def put(folder, e, *, shown, slope=True, **fields):
    """An image as dcm2niix writes it: stored numbers and the slope of its kind."""
    import json

    import nibabel

    stored = precise()[e] * SS[e]  # P = stored / SS
    own = RS[e] if shown else 1 / SS[e]
    volume = nibabel.Nifti1Image(
        (stored if slope else stored * own).astype(np.float32), np.eye(4)
    )
    if slope:
        volume.header.set_slope_inter(own, 0)
    path = folder / f"{e}.nii"
    volume.to_filename(path)
    if slope:  # nibabel divided by the slope
        data = bytearray(path.read_bytes())
        data[352:] = stored.astype("<f4").tobytes(order="F")
        path.write_bytes(data)
    said = {
        "EchoTime": TE[e], "PhilipsRescaleSlope": RS[e], "PhilipsRescaleIntercept": 0,
        "PhilipsScaleSlope": SS[e], FLAG: int(not shown), "Manufacturer": "Philips",
    }  # fmt: skip
    said = {k: v for k, v in (said | fields).items() if v is not None}
    (folder / f"{e}.json").write_text(json.dumps(said))
    return path


def read(folder):
    scan = open_scan(folder)
    return np.stack([scan.read(z).images for z in range(2)], -1), scan.notes


@pytest.mark.parametrize("slope", [True, False])
def test_displayed_values_are_brought_to_the_precise_scale(tmp_path, slope):
    for e in range(3):
        put(tmp_path, e, shown=e != 1, slope=slope)
    images, notes = read(tmp_path)
    np.testing.assert_allclose(images, precise(), rtol=1e-6)  # float32
    assert "precise scale" in notes[0]


def test_precise_values_stay(tmp_path):
    for e in range(3):
        put(tmp_path, e, shown=False)
    images, notes = read(tmp_path)
    np.testing.assert_allclose(images, precise(), rtol=1e-6)
    assert notes == ()


def test_the_slope_of_the_file_tells_what_an_old_converter_did(tmp_path):
    for e in range(3):
        put(tmp_path, e, shown=True, **{FLAG: 1, "PhilipsRWVSlope": RS[e]})
    np.testing.assert_allclose(read(tmp_path)[0], precise(), rtol=1e-6)
    for e in range(3):
        put(tmp_path, e, shown=True, **{FLAG: 1})
    with pytest.raises(ValueError, match=r"0.nii: UsePhilips.* 1, but the slope of"):
        open_scan(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({FLAG: None}, ".*no UsePhilips.* says whether"),
        ({"PhilipsScaleSlope": None}, "PhilipsScaleSlope None.*expected both"),
        ({"PhilipsScaleSlope": 0}, "PhilipsScaleSlope 0; expected a number, and no 0"),
        ({"PhilipsRescaleSlope": "2"}, "PhilipsRescaleSlope '2'; expected a number"),
    ],
)
def test_an_unknown_scale_is_refused(tmp_path, fields, message):
    for e in range(3):
        put(tmp_path, e, shown=True, slope=False, **(fields if e == 1 else {}))
    with pytest.raises(ValueError, match=rf"1\.(nii|json): {message}"):
        open_scan(tmp_path)


def test_equal_fields_change_nothing(tmp_path):
    for e in range(3):
        put(
            tmp_path, e, shown=True, slope=False, PhilipsRescaleSlope=2,
            PhilipsScaleSlope=0.5,
        )  # fmt: skip
    images, notes = read(tmp_path)
    np.testing.assert_allclose(
        images[:, 0, 0, 0], precise()[:, 0, 0, 0] * SS * np.array(RS), rtol=1e-6
    )
    assert notes == ()


def test_slopes_without_a_scale(tmp_path):
    bare = {"PhilipsScaleSlope": None, FLAG: None, "PhilipsRescaleSlope": None}
    for e in range(3):
        more = {"RescaleSlope": RS[e], "Manufacturer": "GE"}
        put(tmp_path, e, shown=True, **bare, **more)
    assert open_scan(tmp_path).notes == ()  # each file applies its own
    for e in range(3):
        put(tmp_path, e, shown=True, slope=False, **bare, RescaleSlope=RS[e])
    with pytest.raises(ValueError, match="RescaleSlope 2.0 and the file's slope 1;"):
        open_scan(tmp_path)
    for e in range(3):
        put(tmp_path, e, shown=True, **bare)
    assert open_scan(tmp_path).notes[0].startswith("doubt: the images have their own")

"""The ISMRMRD header against the ismrmrd package, and the crop of the readout."""

import numpy as np
import pytest

from medjax.data.scans import header as scan_header
from tests.data.scans.scan_cases import header


def test_header_equals_the_package_s():
    xsd = pytest.importorskip("ismrmrd.xsd")
    text = header(te=(15, 40), ti=(50,), flip=(10,), mode="embedded")
    theirs = xsd.CreateFromDocument(text)
    ours = scan_header.parse_header(text, "a")
    encoding = theirs.encoding[0]
    size = encoding.encodedSpace.matrixSize
    assert ours.matrix == (size.x, size.y, size.z) == (16, 12, 1)
    fov = encoding.reconSpace.fieldOfView_mm
    assert ours.kept_mm == (fov.x, fov.y, fov.z)
    assert ours.fov_mm[0] == encoding.encodedSpace.fieldOfView_mm.x
    assert ours.centre == encoding.encodingLimits.kspace_encoding_step_1.center
    assert ours.trajectory == encoding.trajectory.value
    assert ours.calibration == encoding.parallelImaging.calibrationMode.value
    sequence = theirs.sequenceParameters
    np.testing.assert_allclose(ours.times["t2"], np.array(sequence.TE) / 1e3)
    np.testing.assert_allclose(ours.times["t1"], np.array(sequence.TI) / 1e3)
    assert ours.times["vfa"] == pytest.approx(np.deg2rad(sequence.flipAngle_deg))
    assert ours.repetition == pytest.approx(np.array(sequence.TR) / 1e3)


def test_repetition_times_of_headers():
    one = scan_header.parse_header(header(full=16, rows=8), "a")

    def found(*lists, count=3, contrast="vfa"):
        heads = [None if x is None else one._replace(repetition=x) for x in lists]
        options = {"count": count, "contrast": contrast}
        return scan_header.repetition_times(heads, "a.h5", **options)

    assert found((0.02,)) == found((0.02, 0.02)) == (0.02,)
    assert found((0.02, 0.01, 0.02)) == (0.02, 0.01, 0.02)  # one a contrast
    assert found((0.02,), (0.01,), (0.02, 0.02)) == (0.02, 0.01, 0.02)  # and a file
    assert found((0.02,), (0.02,), (0.02,)) == (0.02,)
    assert found((0.02,), None, (0.02,)) == found(()) == ()
    assert found((0.02, 0.01), contrast="t2") == ()
    with pytest.raises(ValueError, match=r"a.h5: .* \(0.02, 0.01\) s of 3"):
        found((0.02, 0.01))


def test_bad_headers_are_named():
    for text, message in (
        ("<a", "no XML"),
        ("<a/>", "no <encoding>"),
        ("<a><encoding/></a>", "no encodedSpace/matrixSize"),
    ):
        with pytest.raises(ValueError, match=f"a.h5.*{message}"):
            scan_header.parse_header(text, "a.h5")
    for value in ("ten", "10 ms", "", "nan", "1e400"):
        with pytest.raises(ValueError, match=f"a.h5: TE .*{value}.*expected a number"):
            scan_header.parse_header(header(te=(10, value)), "a.h5")
    with pytest.raises(ValueError, match="a.h5: .*/center 'six' .*expected a number"):
        scan_header.parse_header(header(centre="six"), "a.h5")
    for sizes in ({"full": 0}, {"rows": -8}):
        with pytest.raises(ValueError, match="a.h5: .*expected sizes above 0"):
            scan_header.parse_header(header(**sizes), "a.h5")


@pytest.mark.parametrize(("full", "rows"), [(16, 8), (15, 8), (16, 9), (8, 8)])
def test_the_crop_keeps_the_middle_of_the_image(full, rows):
    rng = np.random.default_rng(0)
    kspace = rng.standard_normal((2, full, 5, 2)) @ [1, 1j]
    found = scan_header.crop_readout(kspace, rows=rows)

    def image(k):  # row by row, the transform as a sum
        n = k.shape[1]
        grid = np.arange(n) - n // 2
        return np.exp(2j * np.pi * np.outer(grid, grid) / n) @ k / np.sqrt(n)

    first = full // 2 - rows // 2
    expected = image(kspace)[:, first : first + rows]
    np.testing.assert_allclose(image(found), expected, atol=1e-12)  # rounding


def test_kept_rows():
    found = scan_header.parse_header(header(full=16, rows=8), "a")
    assert scan_header.kept_rows(found, 16) == 8
    assert scan_header.kept_rows(found, 640) == 320
    same = scan_header.parse_header(header(full=8, rows=8), "a")
    assert scan_header.kept_rows(same, 8) == 8

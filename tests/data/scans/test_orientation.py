"""Conjugated k-space: the same image, turned about its middle."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, header, make_scan
from tests.data.scans.test_ismrmrd import MS, lines, write


def images(kspace):
    """Magnitudes of centred k-space [.., H, W]."""
    shifted = np.fft.ifftshift(kspace, (-2, -1))
    return np.abs(np.fft.fftshift(np.fft.ifft2(shifted), (-2, -1)))


def turned(x):
    """Pixel r about the middle goes to -r."""
    return np.roll(x[..., ::-1, ::-1], (1, 1), (-2, -1))


def vendor_header(vendor, **how):
    said = f"<systemVendor>{vendor}</systemVendor>"
    text = header(full=8, te=MS, **how)
    return text.replace(
        "<experimentalConditions>",
        f"<acquisitionSystemInformation>{said}</acquisitionSystemInformation>"
        "<experimentalConditions>",
    )


@pytest.mark.parametrize(
    ("vendor", "choice", "conjugated"),
    [
        ("SIEMENS", "vendor", True),
        ("Siemens Healthineers", "vendor", True),
        ("GE", "vendor", False),
        ("SIEMENS", "stored", False),
        ("GE", "conjugate", True),
        ("SIEMENS", "conjugate", True),
    ],
)
def test_ismrmrd(tmp_path, vendor, choice, conjugated):
    kspace, mask, _ = make_scan(slices=2)
    path = write(tmp_path / "a.h5", lines(kspace, mask), vendor_header(vendor))
    found = open_scan(path, orientation=choice)
    expected = kspace[1].conj() if conjugated else kspace[1]
    np.testing.assert_array_equal(found.read(1).kspace, expected)
    assert found.conjugated == 2 * conjugated
    assert f"is {'conjugated' if conjugated else 'as it is stored'}" in found.notes[0]
    shown, before = images(found.read(1).kspace), images(kspace[1])
    wanted = turned(before) if conjugated else before
    np.testing.assert_allclose(shown, wanted, atol=1e-5 * before.max())


def test_other_k_space_and_its_sensitivities(tmp_path):
    kspace, mask, sens = make_scan()
    path = tmp_path / "scan.npz"
    noise = np.ones((4, 9)) * 1j
    np.savez(path, kspace=kspace, te=TE, sens=sens, noise=noise)
    found = open_scan(path, orientation="conjugate")
    one = found.read(0)
    np.testing.assert_array_equal(one.kspace, kspace[0].conj())
    np.testing.assert_array_equal(one.sens, turned(sens[0]).conj())
    np.testing.assert_array_equal(one.noise, noise.conj())
    assert found.notes[0].startswith("orientation: k-space is conjugated")
    same = open_scan(path)
    assert not same.conjugated and not same.notes
    np.testing.assert_array_equal(same.read(0).kspace, kspace[0])
    # maps of another file are those of k-space as it is stored
    np.savez(tmp_path / "maps.npz", sens=sens)
    siemens = write(
        tmp_path / "a.h5",
        lines(kspace, mask),
        vendor_header("SIEMENS"),
    )
    given = open_scan(siemens, sens=tmp_path / "maps.npz")
    np.testing.assert_array_equal(given.read(2).sens, turned(sens[2]).conj())


def test_images_are_not_turned(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.ones((1, 3, 8, 8)), te=TE)
    with pytest.raises(ValueError, match=r"a.npz: predict.orientation is of k-space"):
        open_scan(tmp_path / "a.npz", orientation="conjugate")
    with pytest.raises(ValueError, match="'patient': expected one of vendor, stored"):
        open_scan(tmp_path / "a.npz", orientation="patient")

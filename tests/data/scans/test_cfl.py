"""BART's pairs, against our own bytes and against the tool itself."""

import shutil
import subprocess

import numpy as np
import pytest

from medjax.data.scans.cfl import read_cfl
from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, make_scan, to_bart, write_cfl

T2 = {"times": TE, "contrast": "t2"}


@pytest.mark.parametrize("suffix", [".cfl", ".hdr", ""])
def test_a_volume_comes_back(tmp_path, suffix):
    kspace, mask, sens = make_scan()
    write_cfl(tmp_path / "k", to_bart(kspace))
    write_cfl(tmp_path / "k_sens", to_bart(sens[:, None]))
    scan = open_scan(tmp_path / f"k{suffix}", **T2, voxel_mm=(1, 2, 3))
    assert scan.num_slices == 3 and scan.shape == (8, 12)
    assert scan.voxel_mm == (1, 2, 3)
    for index in range(3):
        found = scan.read(index)
        np.testing.assert_array_equal(found.kspace, kspace[index])
        np.testing.assert_array_equal(found.sens, sens[index])
        np.testing.assert_array_equal(found.mask[:, 0], mask)
    assert isinstance(read_cfl(tmp_path / "k"), np.memmap)  # no volume in memory


def test_other_sensitivities(tmp_path):
    kspace, _, sens = make_scan()
    write_cfl(tmp_path / "k", to_bart(kspace))
    other = write_cfl(tmp_path / "maps", to_bart(sens[:1, None]))
    found = open_scan(tmp_path / "k.cfl", **T2, sens=other).read(2)
    np.testing.assert_array_equal(found.sens, sens[0])
    assert open_scan(tmp_path / "k.cfl", **T2).read(2).sens is None
    two = write_cfl(tmp_path / "two", to_bart(sens[:2, None]))
    with pytest.raises(ValueError, match=r"two.cfl: sens.* with 3 slices"):
        open_scan(tmp_path / "k.cfl", **T2, sens=two)


def test_what_bart_writes(tmp_path):
    if shutil.which("bart") is None:
        pytest.skip("bart is not installed")

    def bart(command):
        done = subprocess.run(
            ["bart", *command.split()], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    bart("phantom -k -s 2 -x 16 one")
    bart("scale 0.5 one half")
    bart("join 5 one half echoes")
    bart("scale 2 echoes twice")
    bart("join 13 echoes twice k")
    bart("phantom -S 2 -x 16 raw")
    with pytest.raises(ValueError, match="normalize_sensitivities"):
        open_scan(
            tmp_path / "k", times=TE[:2], contrast="t2", sens=tmp_path / "raw.cfl"
        ).read(0)
    bart("ecalib -m1 -r 12 -c 0 one k_sens")
    scan = open_scan(tmp_path / "k", times=TE[:2], contrast="t2")
    first, second = scan.read(0), scan.read(1)
    assert first.kspace.shape == (2, 2, 16, 16) and scan.num_slices == 2
    assert first.sens.shape == (2, 16, 16)
    np.testing.assert_array_equal(first.kspace[0], 2 * first.kspace[1])
    np.testing.assert_array_equal(second.kspace, 2 * first.kspace)
    # `bart show` prints what it has itself: one row (readout 3) of coil 1.
    shown = bart("slice 0 3 3 1 one row") + bart("show row")
    theirs = [complex(word.replace("i", "j")) for word in shown.split()]
    np.testing.assert_allclose(first.kspace[0, 1, 3], theirs, rtol=1e-5)
    # Centred and in this order: our transform gives BART's own image.
    bart("fft -u -i 3 one image")
    ours = np.fft.ifft2(np.fft.ifftshift(first.kspace[0], (-2, -1)), norm="ortho")
    theirs = read_cfl(tmp_path / "image")[:, :, 0, :].reshape(16, 16, 2)
    ours = np.fft.fftshift(ours, (-2, -1))
    # Two transforms in single precision.
    np.testing.assert_allclose(
        ours, theirs.transpose(2, 0, 1), atol=2e-6 * np.abs(ours).max()
    )


def test_missing_and_broken_pairs(tmp_path):
    kspace, _, _ = make_scan()
    path = write_cfl(tmp_path / "k", to_bart(kspace))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"k\.cfl: 27640 bytes; expected 27648"):
        open_scan(path, **T2)
    path.with_suffix(".hdr").write_text("# Creator\nBART\n")
    with pytest.raises(ValueError, match="expected a line '# Dimensions'"):
        open_scan(path, **T2)
    path.with_suffix(".hdr").unlink()
    with pytest.raises(FileNotFoundError, match=r"k\.hdr: no such file"):
        open_scan(path, **T2)


def test_other_dimensions_are_named(tmp_path):
    kspace, _, _ = make_scan()
    bart = to_bart(kspace)
    volume = write_cfl(tmp_path / "volume", np.moveaxis(bart, 13, 2))
    with pytest.raises(ValueError, match="three-dimensional.*bart transpose 2 13"):
        open_scan(volume, **T2)
    time = write_cfl(tmp_path / "time", np.swapaxes(bart, 5, 10))
    with pytest.raises(ValueError, match="'TIME': 3.*move or take out TIME"):
        open_scan(time, **T2)
    write_cfl(tmp_path / "k", bart)
    maps = write_cfl(tmp_path / "maps", np.swapaxes(bart[..., :1], 4, 5))
    with pytest.raises(ValueError, match="maps.*bart slice 4 0"):
        open_scan(tmp_path / "k", **T2, sens=maps)
    with pytest.raises(ValueError, match="give times= in seconds"):
        open_scan(tmp_path / "k")

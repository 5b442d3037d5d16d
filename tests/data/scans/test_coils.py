"""Sensitivities and noise from files of their own; coils that are dead."""

import h5py
import nibabel
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, make_scan, to_bart, write_cfl

ANY = np.random.default_rng(5)


def scan_file(folder, **more):
    kspace, _, sens = make_scan()
    path = folder / "scan.npz"
    np.savez(path, **{"kspace": kspace, "te": TE, **more})
    return path, kspace, sens


def sens_file(folder, kind, sens):
    path = folder / f"maps.{kind}"
    volume = sens.transpose(2, 3, 0, 1)  # [H, W, Z, C]
    if kind == "npz":
        np.savez(path, sens=sens)
    elif kind == "npy":
        np.save(path, sens)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["sens"] = sens
    elif kind == "cfl":
        write_cfl(path, to_bart(sens[:, None]))
    elif kind == "nii":
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    else:
        path = folder / "pairs.nii.gz"
        parts = np.stack([volume.real, volume.imag], -1)
        nibabel.save(nibabel.Nifti1Image(parts, np.eye(4)), path)
    return path


@pytest.mark.parametrize("kind", ["npz", "npy", "h5", "cfl", "nii", "pairs"])
def test_sensitivities_of_any_format(tmp_path, kind):
    path, kspace, sens = scan_file(tmp_path)
    found = open_scan(path, sens=sens_file(tmp_path, kind, sens))
    for z in range(3):
        np.testing.assert_array_equal(found.read(z).sens, sens[z])
        np.testing.assert_array_equal(found.read(z).kspace, kspace[z])
    one = open_scan(path, sens=sens_file(tmp_path, kind, sens[:1]))
    np.testing.assert_array_equal(one.read(2).sens, sens[0])
    with pytest.raises(ValueError, match="sensitivities .* with 3 slices"):
        open_scan(path, sens=sens_file(tmp_path, kind, sens[:2]))


def test_what_is_no_sensitivities(tmp_path):
    path, _, sens = scan_file(tmp_path)
    np.savez(tmp_path / "other.npz", maps=sens)
    with pytest.raises(ValueError, match=r"other.npz: holds \['maps'\]; expected 's"):
        open_scan(path, sens=tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match=r"none.npz: no such file"):
        open_scan(path, sens=tmp_path / "none.npz")
    real = nibabel.Nifti1Image(np.ones((8, 12, 3, 4), np.float32), np.eye(4))
    nibabel.save(real, tmp_path / "real.nii")
    with pytest.raises(ValueError, match=r"real.nii: .*float32; expected complex"):
        open_scan(path, sens=tmp_path / "real.nii")


def test_noise_of_a_file_of_its_own(tmp_path):
    path, _, _ = scan_file(tmp_path)
    noise = (ANY.normal(size=(4, 64, 2)) @ [1, 1j]).astype(np.complex64)
    np.savez(tmp_path / "n.npz", noise=noise)
    np.save(tmp_path / "n.npy", noise)
    write_cfl(tmp_path / "n.cfl", noise.T[:, None, None])
    for name in ("n.npz", "n.npy", "n.cfl"):
        found = open_scan(path, noise=tmp_path / name).read(1)
        np.testing.assert_array_equal(found.noise, noise)
    np.save(tmp_path / "n.npy", noise[:3])
    with pytest.raises(ValueError, match=r"noise \(3, 64\); expected .* C = 4"):
        open_scan(path, noise=tmp_path / "n.npy").read(1)


def test_a_dead_coil_is_dropped_and_named(tmp_path):
    kspace, _, sens = make_scan()
    kspace[:, :, 2] = 0
    noise = ANY.normal(size=(4, 64, 2)) @ [1, 1j]
    path, _, _ = scan_file(tmp_path, kspace=kspace, sens=sens, noise=noise)
    found = open_scan(path)
    assert found.notes == ("coils left out, since they are 0 everywhere: 2",)
    alive = [0, 1, 3]
    one = found.read(1)
    np.testing.assert_array_equal(one.kspace, kspace[1][:, alive])
    np.testing.assert_allclose(one.noise, noise[alive], rtol=1e-6)
    power = np.linalg.norm(sens[1][alive], axis=0)
    expected = np.where(power > 0.1, sens[1][alive] / power, 0)
    np.testing.assert_allclose(one.sens, expected, rtol=1e-5)
    kspace[2, :, 2] = kspace[2, :, 1]  # alive in the last slice
    path, _, _ = scan_file(tmp_path, kspace=kspace)
    found = open_scan(path)
    found.read(1)
    with pytest.raises(ValueError, match="slice 2: coils 2 are 0 in the first slice"):
        found.read(2)

"""The centre of k-space that a file declares, against its energy, in every format."""

import h5py
import numpy as np
import pytest

from medjax.data.scans.centre import energy_offset
from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import header, to_bart, write_cfl
from tests.data.scans.test_ismrmrd import lines, write
from tests.recipes.qmri.phase_phantoms import (
    ECHOES,
    INVERSIONS,
    SIDE,
    echoes,
    measure,
    recoveries,
)

MS = tuple((1e3 * ECHOES).tolist())


def in_format(kind, folder, kspace):
    """A file of k-space [1, E, C, H, W] at `ECHOES`, opened."""
    path = folder / f"scan.{kind}"
    te = {"times": ECHOES.tolist(), "contrast": "t2"}
    if kind == "npz":
        np.savez(path, kspace=kspace, te=ECHOES)
        return open_scan(path)
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file["kspace"], file["te"] = kspace, ECHOES
        return open_scan(path)
    if kind == "cfl":
        return open_scan(write_cfl(path, to_bart(kspace)), **te)
    if kind == "ismrmrd":
        path = folder / "scan.h5"
        mask = (kspace[0] != 0).any((1, 2))
        text = header(full=SIDE, rows=SIDE, width=SIDE, centre=SIDE // 2, te=MS)
        return open_scan(write(path, lines(kspace, mask), text))
    files = [folder / f"echo{e}.h5" for e in range(kspace.shape[1])]  # fastMRI
    for e, path in enumerate(files):
        with h5py.File(path, "w") as file:
            file["kspace"] = kspace[:, e]
    return open_scan(files, **te)


def cut(axis):
    """A partial Fourier scan whose missing lines nobody has filled in, twice as wide.

    48 points in 72, the zero frequency at 24 - 12 of 48: a quarter of the side away.
    """
    kspace = measure(echoes()[0], snr=40)
    return np.roll(kspace, -SIDE // 4, axis)


@pytest.mark.parametrize("kind", ["npz", "h5", "cfl", "ismrmrd", "fastmri"])
def test_every_format_refuses_a_centre_beside_its_place(tmp_path, kind):
    found = in_format(kind, tmp_path, cut(-1))
    message = (
        r"slice 0: the energy of k-space \(contrast 0\) stands 12 columns \(25 % of "
        r"48\) before the centre that is declared, index \(24, 24\).*numpy.pad"
    )
    with pytest.raises(ValueError, match=message):
        found.read(0)
    in_format(kind, tmp_path, measure(echoes()[0])).read(0)


def test_rows_and_the_limit(tmp_path):
    with pytest.raises(ValueError, match=r"stands 12 rows \(25 % of 48\) before the"):
        in_format("npz", tmp_path, cut(-2)).read(0)
    clean = measure(echoes()[0])
    for shift, refused in ((3, False), (4, True), (-3, False), (-4, True)):
        found = in_format("npz", tmp_path, np.roll(clean, shift, -1))
        if refused:  # 8 % of 48 are 3.84
            with pytest.raises(ValueError, match="4 columns .* the centre"):
                found.read(0)
        else:
            found.read(0)


def test_a_centre_in_its_place_passes_however_it_is_sampled(tmp_path):
    """Random lines without a block in the middle, partial Fourier on either side."""
    images = echoes(50)[0]
    for seed in range(20):
        kspace = measure(images, acceleration=2 + seed % 6, snr=10, seed=seed, centre=0)
        mask = (kspace[0] != 0).any((1, 2))
        sampled = kspace[0, 0], mask[0][None]
        if mask[0].any():
            offset = energy_offset(*sampled)
            assert offset is None or max(map(abs, offset)) <= 1, seed
    for part in (slice(0, 20), slice(28, None)):
        for axis in (-1, -2):
            partial = measure(images)
            np.moveaxis(partial, axis, 0)[part] = 0
            in_format("npz", tmp_path, partial).read(0)


def test_noise_alone_has_no_centre():
    rng = np.random.default_rng(3)
    for coils in (1, 2, 8):
        noise = rng.normal(size=(coils, 64, 64, 2)) @ [1, 1j]
        assert energy_offset(noise, np.ones((1, 64), bool)) is None
    assert energy_offset(0 * noise, np.ones((1, 64), bool)) is None


def test_an_inversion_is_judged_by_its_strongest_contrast(tmp_path):
    kspace = measure(recoveries()[0])
    kspace[:, :-1] = np.roll(kspace[:, :-1], 12, -1)  # not the longest, the strongest
    path = tmp_path / "scan.npz"
    np.savez(path, kspace=kspace, ti=INVERSIONS)
    open_scan(path).read(0)
    np.savez(path, kspace=np.roll(kspace, 12, -1), ti=INVERSIONS)
    with pytest.raises(ValueError, match=r"\(contrast 7\) stands 12 columns"):
        open_scan(path).read(0)

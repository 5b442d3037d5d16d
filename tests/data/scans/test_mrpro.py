"""Images, voxels and affine against MRpro's, read from the same ISMRMRD files.

Recorded on 2026-11-29 with MRpro 0.261015 and PyTorch 2.13.0 on a CPU,
from the files that `put` writes: `KData.from_file` with `KTrajectoryCartesian`,
`remove_readout_os`, `DirectReconstruction` without coil maps, and its `to_nifti`. All
images agreed to 4e-7 after one complex factor, which was 1, and T2 maps fitted to them
to 1e-6.
"""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.mri import fit_map, signal_model
from tests.data.scans.scan_cases import header
from tests.data.scans.test_ismrmrd import lines, write
from tests.data.scans.test_ismrmrd_forms import volume
from tests.recipes.qmri.phase_phantoms import (
    COLUMNS,
    ECHOES,
    ROWS,
    SIDE,
    echoes,
    measure,
)

# Of voxels (readout, phase encoding): contrast 0 of coil 2, contrast 5 of coil 4.
VOXELS = [(10, 14), (20, 30), (24, 24), (30, 20), (36, 33), (14, 36)]
SIEMENS = [
    -0.42494 - 0.00466j, 0.04606 + 0.02251j, -0.56348 - 0.15924j, 0.00491 + 0.28633j,
    -0.35375 - 0.26553j, -0.08289 + 0.31861j, -0.12193 - 0.23082j, -0.08518 + 0.25396j,
    -0.10457 - 0.17681j, 0.01982 + 0.42059j, -0.68723 + 0.00001j, -0.01612 + 0.15671j,
]  # fmt: skip
GE = [
    -0.10579 + 0.16315j, 0.05573 - 0.45362j, -0.17655 + 0.21667j, -0.05603 - 0.22277j,
    -0.35375 + 0.26553j, -0.08289 - 0.31861j, -0.57811 + 0.16886j, 0.00796 - 0.24946j,
    -0.38087 + 0.05639j, 0.01572 - 0.05043j, -0.00794 + 0.10469j, -0.10494 - 0.16109j,
]  # fmt: skip
# T2 in ms there, fitted to the root sum of squares of MRpro's images.
SIEMENS_T2 = [63.163, 111.747, 110.494, 58.577, 59.763, 60.817]
GE_T2 = [64.094, 58.319, 110.494, 112.164, 66.042, 62.306]
# What to_nifti wrote: LPS directions without the voxels' size; in the last column the
# mean position in m, where ours puts the middle voxel; and pixdim, in m.
DIRECTIONS = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
POSITION = {"flat": (0.01, 0.02, 0.0025), "deep": (0.01, 0.02, 0.03)}
PIXDIM = {"flat": (0.01, 0.005, 0.005), "deep": (0.01, 0.005, 0.00125)}


def put(path, vendor, depth):
    """Eight echoes of a marked head: two slices, or four partitions of one slab."""
    mark = np.hypot(ROWS + 0.4, COLUMNS - 0.35) < 0.12
    slices = [
        measure(echoes()[0] * (1 - 0.6 * mark) * (1 + 0.1 * z), seed=z, snr=50)[0]
        for z in range(depth or 2)
    ]
    whole = np.ones((len(ECHOES), SIDE), bool)
    full = SIDE if depth else 2 * SIDE
    make = volume if depth else lines
    acquisitions = make(upsampled(np.stack(slices), full), whole)
    for acquisition in acquisitions:
        acquisition.read_dir[:] = (0.8, 0.6, 0)
        acquisition.phase_dir[:] = (-0.6, 0.8, 0)
    text = header(
        full=full, rows=SIDE, width=SIDE, centre=SIDE // 2, depth=depth or 1,
        te=tuple((1e3 * ECHOES).tolist()),
    )  # fmt: skip
    said = f"<systemVendor>{vendor}</systemVendor>"
    opening = "<experimentalConditions>"
    text = text.replace(
        opening,
        f"<acquisitionSystemInformation>{said}</acquisitionSystemInformation>{opening}",
    )
    return write(path, acquisitions, text)


def upsampled(kspace, full):
    """k-space of the image with empty rows around it."""
    axis = {"axis": -2, "norm": "ortho"}
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, -2), **axis), -2)
    around = (full - kspace.shape[-2]) // 2
    image = np.pad(image, [*[(0, 0)] * 3, (around, around), (0, 0)])
    return np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, -2), **axis), -2)


@pytest.mark.parametrize(
    ("vendor", "depth", "index", "expected", "t2"),
    [
        ("SIEMENS", 0, 1, SIEMENS, SIEMENS_T2),
        ("GE", 0, 1, GE, GE_T2),
        ("SIEMENS", 4, 3, SIEMENS, SIEMENS_T2),  # all axes turned: partition -1 is 1
    ],
)
def test_images_maps_and_places_are_mrpro_s(
    tmp_path, vendor, depth, index, expected, t2
):
    found = open_scan(put(tmp_path / "a.h5", vendor, depth))
    kspace = np.fft.ifftshift(found.read(index).kspace, (-2, -1))
    images = np.fft.fftshift(np.fft.ifft2(kspace, norm="ortho"), (-2, -1))
    ours = [images[e, c, x, y] for x, y in VOXELS for e, c in ((0, 2), (5, 4))]
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    combined = np.sqrt((np.abs(images) ** 2).sum(1)).astype(np.float32)
    times = ECHOES.astype(np.float32)
    maps = fit_map(combined, times, model=signal_model("t2"))
    found_t2 = [1e3 * float(maps.params["t2"][place]) for place in VOXELS]
    np.testing.assert_allclose(found_t2, t2, rtol=1e-3)
    kind = "deep" if depth else "flat"
    sizes = 1e3 * np.array(PIXDIM[kind])
    np.testing.assert_allclose(found.voxel_mm, sizes, rtol=1e-6)
    middle = [SIDE // 2, SIDE // 2, depth // 2 if depth else 0.5]
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS * sizes
    affine[:3, 3] = 1e3 * np.array(POSITION[kind]) - affine[:3, :3] @ middle
    lps_to_ras = np.diag([-1, -1, 1, 1])
    np.testing.assert_allclose(found.affine, lps_to_ras @ affine, atol=1e-4)

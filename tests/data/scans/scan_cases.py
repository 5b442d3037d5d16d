"""A small scan in arrays, and files of it, for the tests of the readers."""

import json

import numpy as np

TE = [0.015, 0.04, 0.08]


def make_scan(seed=0, slices=3, echoes=3, coils=4, shape=(8, 12)):
    """k-space [Z, E, C, H, W], its mask [E, W] and sensitivities [Z, C, H, W]."""
    rng = np.random.default_rng(seed)

    def normal(*size):
        return rng.standard_normal((*size, 2)) @ [1, 1j]

    mask = rng.random((echoes, shape[1])) < 0.5
    mask[:, shape[1] // 2] = True
    mask[:, 0] = [False, True, True, True][:echoes]
    kspace = normal(slices, echoes, coils, *shape) * mask[:, None, None]
    kspace[..., shape[0] // 2, shape[1] // 2] *= 50  # as of an image: a large mean
    sens = normal(slices, coils, *shape)
    sens /= np.sqrt(np.sum(np.abs(sens) ** 2, axis=1, keepdims=True))
    return kspace.astype(np.complex64), mask, sens.astype(np.complex64)


def write_cfl(path, array):
    """The array as BART stores it: a header and column-major bytes."""
    sizes = " ".join(map(str, (*array.shape, *[1] * (16 - array.ndim))))
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{sizes} \n")
    path.with_suffix(".cfl").write_bytes(array.astype("<c8").tobytes(order="F"))
    return path.with_suffix(".cfl")


def to_bart(kspace):
    """[Z, E, C, H, W] -> BART's [H, W, 1, C, 1, E, 1 ... 1, Z]."""
    return kspace.transpose(3, 4, 2, 1, 0)[
        :, :, None, :, None, :, *[None] * 7, :
    ].reshape(
        kspace.shape[3], kspace.shape[4], 1, kspace.shape[2], 1, kspace.shape[1],
        *[1] * 7, kspace.shape[0],
    )  # fmt: skip


def write_nifti(path, images, sidecar=None, affine=None):
    """Images [H, W, Z] or [H, W, Z, E] and their JSON."""
    import nibabel

    affine = np.diag([2.0, 1.5, 4.0, 1.0]) if affine is None else affine
    volume = nibabel.Nifti1Image(images, affine)
    volume.header.set_xyzt_units("mm")
    volume.to_filename(path)
    if sidecar is not None:
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        path.with_name(f"{stem}.json").write_text(json.dumps(sidecar))
    return path


XML = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<experimentalConditions><H1resonanceFrequency_Hz>128000000</H1resonanceFrequency_Hz>
</experimentalConditions>
<encoding><encodedSpace><matrixSize><x>{full}</x><y>{width}</y><z>{depth}</z>
</matrixSize><fieldOfView_mm><x>{fov}</x><y>240</y><z>5</z></fieldOfView_mm>
</encodedSpace><reconSpace><matrixSize><x>{rows}</x><y>{width}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{kept}</x><y>240</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum>
<center>{centre}</center></kspace_encoding_step_1></encodingLimits>
<trajectory>{trajectory}</trajectory>{parallel}</encoding>
<sequenceParameters>{times}</sequenceParameters></ismrmrdHeader>
"""


def header(
    full=16, rows=8, width=12, centre=6, depth=1, trajectory="cartesian", mode=None,
    tr=(2000,), te=(), ti=(), flip=(),
):  # fmt: skip
    """An ISMRMRD header; times in milliseconds, as there."""
    tags = {"TR": tr, "TE": te, "TI": ti, "flipAngle_deg": flip}
    times = "".join(f"<{n}>{v}</{n}>" for n, values in tags.items() for v in values)
    parallel = (
        ""
        if mode is None
        else "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2"
        "</kspace_encoding_step_1><kspace_encoding_step_2>1</kspace_encoding_step_2>"
        f"</accelerationFactor><calibrationMode>{mode}</calibrationMode>"
        "</parallelImaging>"
    )
    return XML.format(
        full=full, rows=rows, width=width, centre=centre, last=width - 1, depth=depth,
        fov=10 * full, kept=10 * rows, trajectory=trajectory, parallel=parallel,
        times=times,
    )  # fmt: skip

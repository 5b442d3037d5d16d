"""One measured slice with its reference map, undersampled as the PUQ authors do it."""

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.data.qmri.simulate import make_protocol, sample_kspace
from medjax.mri.masks import undersampling_mask
from medjax.types import QmriBatch

KEYS = ("image", "sens", "t2", "pd", "roi", "seed", "te")
CENTER_FRACTION = 0.08
INVIVO = -1  # `SliceRecord.subject` of a measured slice


class InvivoReference(NamedTuple):
    """What the file says the maps are: an unweighted fit of the full images."""

    t2: Float[np.ndarray, "H W"]  # s
    pd: Float[np.ndarray, "H W"]  # in units of `QmriBatch.target`
    times: tuple[float, ...]  # TE in s


def invivo_batch(
    path: str | os.PathLike[str], *, acceleration: float
) -> tuple[QmriBatch, InvivoReference]:
    """An npz file of one slice as a batch of one, and its reference.

    Keys: image [E, H, W] (phase removed), sens [C, H, W] (sum_c |S_c|^2 = 1), t2 and pd
    [H, W], roi [H, W], seed of the masks, te [E] in s. k-space is that of the images,
    so it has their noise and no other. Masks are those of the authors' test: the same
    rule, seed and share of the centre.

    Args:
        path: An npz file of plain arrays; other keys in it are not read.
        acceleration: The one that masks are drawn for, 1 or more: one line in so many
            is measured.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds something else; the message says what was expected
            and what it holds.
    """
    try:
        with Path(path).open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise ValueError("it holds one array")
            stored = {key: arrays[key] for key in arrays.files if key in KEYS}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected an npz file of plain arrays: {error}"
        ) from error
    missing = [key for key in KEYS if key not in stored]
    if missing:
        raise ValueError(f"{path}: expected the arrays {KEYS}, {missing} missing")
    _check(path, stored)
    protocol = make_protocol("t2", tuple(stored["te"].tolist()))
    image = np.real(stored["image"]).astype(np.float32)
    largest = float(np.abs(image).max())
    target, sens = image / np.float32(largest), stored["sens"].astype(np.complex64)
    mask = undersampling_mask(
        "random",
        seed=int(stored["seed"]),
        contrasts=len(image),
        size=(sens.shape[1], sens.shape[2]),
        acceleration=acceleration,
        center_fraction=CENTER_FRACTION,
    )
    kspace = sample_kspace(target, sens, mask, 0.0, np.random.default_rng(0))
    row = QmriBatch(
        kspace=kspace,
        mask=mask,
        sens=sens,
        target=target,
        roi=stored["roi"].astype(bool),
        valid=np.array(True),
        sample_id=np.array(0, np.int32),
    )
    reference = InvivoReference(
        t2=stored["t2"].astype(np.float64),
        pd=stored["pd"].astype(np.float64) / largest,
        times=protocol.times,
    )
    return QmriBatch(*(array[None] for array in row)), reference


def _check(path: str | os.PathLike[str], stored: dict[str, np.ndarray]) -> None:
    """Shapes that fit, finite numbers, no phase left, normalised sensitivities."""
    image, sens = stored["image"], stored["sens"]
    if image.ndim != 3 or sens.ndim != 3 or image.shape[1:] != sens.shape[1:]:
        raise ValueError(
            f"{path}: expected image [E, H, W] and sens [C, H, W], found {image.shape} "
            f"and {sens.shape}"
        )
    expected = {"te": image.shape[:1], "seed": ()}
    expected |= {key: image.shape[1:] for key in ("t2", "pd", "roi")}
    for key, shape in expected.items():
        if stored[key].shape != shape:
            raise ValueError(
                f"{path}: expected {key} of shape {shape}, found {stored[key].shape}"
            )
    for key in ("image", "sens", "t2", "pd", "te"):
        if not np.isfinite(stored[key]).all():
            raise ValueError(f"{path}: {key} has values that are not finite")
    largest = np.abs(image).max()
    if not largest > 0:
        raise ValueError(f"{path}: image is 0 everywhere")
    if np.abs(np.imag(image)).max() > 1e-4 * largest:
        raise ValueError(
            f"{path}: image has a phase: expected real values, as after multiplying by "
            "the conjugate phase of the combined image"
        )
    power = (np.abs(sens) ** 2).sum(axis=0)
    if np.abs(power - 1)[power > 0].max(initial=0) > 1e-3 or not power.any():
        raise ValueError(
            f"{path}: expected sum_c |sens_c|^2 = 1 (or 0 outside), found "
            f"{power.min():.3g} to {power.max():.3g}: divide by the root sum of squares"
        )

"""Simulated subjects: one template bent, sharpened and filled anew by a seed.

A subject is a function of (seed, number). What differs from one to the other: size and
pose, and a smooth warp; where the tissues' borders run, and how much fluid there is;
relaxation times, and their slow change within a tissue; and MS-like lesions of the
white matter. The brains' template is symmetric: mirrored, it would be the same one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.data.qmri.brains import Template
from medjax.data.qmri.relaxation import PD, T1, T2, TISSUES

PARTS = ("train", "validation", "test")
_APART = 1_000_000  # subjects of a part at most: numbers of two parts never meet


class Subject(NamedTuple):
    """What is drawn once for a subject."""

    key: tuple[int, int]  # (seed, number)
    matrix: Float[np.ndarray, "3 3"]  # subject's mm to the template's mm
    shift: Float[np.ndarray, "3"]  # mm; of the subject in the view
    borders: Float[np.ndarray, "2"]  # log-odds added to grey matter, to fluid
    t1: Float[np.ndarray, "R"]  # s
    t2: Float[np.ndarray, "R"]  # s
    pd: Float[np.ndarray, "R"]  # of water's
    lesions: Float[np.ndarray, "K 3"]  # mm in the template; may be none
    shapes: Float[np.ndarray, "K 3 3"]  # 1 / mm: |shape (p - lesion)| = 1 is its border


def subject_numbers(part: str, count: int) -> range:
    """The numbers of a part's first subjects; those of two parts are never the same.

    Args:
        part: One of "train", "validation" and "test".
        count: How many numbers are wanted, 1 to 1,000,000.

    Raises:
        ValueError: The part is unknown, or the count outside that range.
    """
    if part not in PARTS:
        raise ValueError(f"part={part!r}: expected one of {PARTS}")
    if not 0 < count <= _APART:
        raise ValueError(f"{count} subjects: expected 1 to {_APART}")
    start = PARTS.index(part) * _APART
    return range(start, start + count)


def draw_subject(
    template: Template,
    *,
    seed: int,
    number: int,
    lesion_share: float,
    time_spread: float,
) -> Subject:
    """The subject that a seed and a number stand for.

    Args:
        template: The one that the subject's brain is made of; it must have sites if
            there are to be lesions.
        seed: The same for all subjects of a population, 0 or more.
        number: The number of the subject, 0 or more, see `subject_numbers`.
        lesion_share: The share of all subjects that have lesions, 4 to 24 of them, from
            0 to 1.
        time_spread: Deviation of the logarithm of a factor on all T1 of a subject, and
            of one on all T2, from 0 to 0.5. Measured times differ that much between
            sequences: what is trained on one value knows no other. On top of it comes
            each tissue's own deviation, 0.04.

    Raises:
        ValueError: A share or a spread is outside these ranges, or the template has no
            place for lesions.
    """
    if not 0 <= lesion_share <= 1 or not 0 <= time_spread <= 0.5:
        raise ValueError(
            f"lesion_share={lesion_share}, time_spread={time_spread}: expected 0 to 1, "
            "0 to 0.5"
        )
    if lesion_share and not len(template.sites):
        raise ValueError("the template has no place for lesions: set lesion_share=0")
    rng = np.random.default_rng((seed, number, 0))
    scale = np.diag(rng.uniform(0.95, 1.06, 3))
    pitch, roll, turn = rng.uniform(-1, 1, 3) * np.deg2rad((5, 3, 7))
    matrix = scale @ _rotation(0, pitch) @ _rotation(1, roll) @ _rotation(2, turn)
    common = time_spread * rng.normal(size=(2, 1))
    times = np.exp(common + rng.normal(0, 0.04, (2, len(TISSUES))))
    water = np.exp(rng.normal(0, 0.02, len(TISSUES)))
    shift = rng.uniform(-1, 1, 3) * (4.0, 5.0, 2.0)
    borders = rng.normal(0, (0.3, 0.5))
    ill = rng.random() < lesion_share
    count = int(rng.integers(4, 25)) if ill else 0
    chosen = rng.integers(len(template.sites), size=count) if count else []
    radii = np.exp(rng.uniform(np.log(2.0), np.log(6.0), (count, 1)))
    radii = radii * np.exp(rng.normal(0, 0.2, (count, 3)))
    turns = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    return Subject(
        key=(seed, number),
        matrix=matrix,
        shift=shift,
        borders=borders,
        t1=np.array(T1) * times[0],
        t2=np.array(T2) * times[1],
        pd=np.array(PD) * water,
        lesions=template.sites[chosen].reshape(-1, 3),
        shapes=turns / radii[:, :, None],
    )


def _rotation(axis: int, angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about one axis."""
    first, second = [a for a in range(3) if a != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix

"""Simulated subjects to batches: endless for training, every slice once for evaluation.

Everything is a function of (seed, index): a draw does not depend on the batch's size,
on the number of hosts, or on what was drawn before. Parts are split by subject.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Bool, Float

from medjax.data.batches import evaluation_order, gather, shuffled, stream
from medjax.data.qmri.brains import Template, slice_height, slice_name
from medjax.data.qmri.rendering import render_slice
from medjax.data.qmri.simulate import Acquisition, acquire, make_protocol
from medjax.data.qmri.subjects import draw_subject, subject_numbers
from medjax.types import QmriBatch


class Population(NamedTuple):
    """The subjects, and how their slices are shown."""

    template: Template
    seed: int  # of all subjects; the same seed gives the same people everywhere
    size: int  # pixels a side
    field: float  # mm a side
    lesion_share: float  # of the subjects
    time_spread: float  # of all of a subject's T1, and T2; see `draw_subject`


class SliceRecord(NamedTuple):
    """What a report says about one slice of an evaluation."""

    sample_id: int
    subject: int  # slices of one subject are resampled together
    slice: int  # voxel index in the template's own grid
    contrast: str
    acceleration: float  # asked for
    sampled: float  # share of k-space that was measured
    snr: float
    noise: float  # deviation of the real part of fully sampled images
    fractions: Float[np.ndarray, "3 H W"]  # gm, wm (lesions included), csf; float16
    lesion: Bool[np.ndarray, "H W"]


class Drawn(NamedTuple):
    """One row of a batch, with its record, as `batches.gather` takes it."""

    row: QmriBatch  # without the axis B
    records: tuple[SliceRecord]
    valid: tuple[bool]


def train_batches(
    population: Population,
    acquisition: Acquisition,
    *,
    subjects: int,
    batch: int,
    seed: int,
    process_index: int,
    process_count: int,
) -> grain.IterDataset:
    """An endless stream of `QmriBatch` of NumPy arrays, all rows valid.

    Its iterator has `get_state` and `set_state`. The slices of all subjects come in a
    new order each epoch, with new masks and new noise; host i of n takes draws i,
    i + n, ... . `sample_id` is the draw's number.

    Args:
        population: who.
        acquisition: how they are measured.
        subjects: how many of the training part.
        batch: B, on this host.
        seed: of order, masks, accelerations and noise.
        process_index: this host.
        process_count: hosts.
    """
    _check(acquisition)
    numbers = subject_numbers("train", subjects)
    per_subject = len(population.template.slices)

    def draw(index: int, element: int) -> Drawn:
        chosen, position = divmod(int(element), per_subject)
        rates = acquisition.accelerations
        pick = np.random.default_rng((seed, index)).integers(len(rates))
        return draw_slice(
            population,
            acquisition,
            number=numbers[chosen],
            position=position,
            draw=(seed, index),
            acceleration=rates[pick],
            sample_id=index,
        )

    return stream(
        shuffled(subjects * per_subject, seed),
        draw,
        collate,
        batch=batch,
        process_index=process_index,
        process_count=process_count,
    )


def eval_batches(
    population: Population,
    acquisition: Acquisition,
    *,
    part: str,
    subjects: int,
    batch: int,
    seed: int,
    limit: int | None = None,
) -> Iterator[tuple[QmriBatch, list[SliceRecord]]]:
    """Every slice of every subject at every acceleration, once, with its record.

    Records are those of the valid rows, in order; rows that only fill the last batch
    are not valid. With `limit`, slices come in a fixed random order and end after so
    many; the rows that are left are the same ones.

    Args:
        population: who.
        acquisition: how they are measured.
        part: "validation" or "test" ("train" to look at what was trained on).
        subjects: how many of that part.
        batch: B.
        seed: of masks, noise, and the order under `limit`.
        limit: rows at most.
    """
    _check(acquisition)
    numbers = subject_numbers(part, subjects)
    rates = acquisition.accelerations
    counts = (subjects, len(population.template.slices), len(rates))
    order = evaluation_order(int(np.prod(counts)), seed=seed, limit=limit)

    def drawn() -> Iterator[Drawn]:
        for index in order[:limit].tolist():
            chosen, position, rate = (int(i) for i in np.unravel_index(index, counts))
            yield draw_slice(
                population,
                acquisition,
                number=numbers[chosen],
                position=position,
                draw=(seed, position, rate),
                acceleration=rates[rate],
                sample_id=index,
            )

    return gather(drawn(), collate, batch=batch)


def draw_slice(
    population: Population,
    acquisition: Acquisition,
    *,
    number: int,
    position: int,
    draw: tuple[int, ...],
    acceleration: float,
    sample_id: int,
) -> Drawn:
    """One row and its record.

    Args:
        population: who.
        acquisition: how it is measured.
        number: of the subject.
        position: index into the template's slices.
        draw: tells this measurement from all others of the subject.
        acceleration: of the mask.
        sample_id: of the row.
    """
    template = population.template
    subject = draw_subject(
        template,
        seed=population.seed,
        number=number,
        lesion_share=population.lesion_share,
        time_spread=population.time_spread,
    )
    z, field = slice_height(template, position), population.field
    brain = render_slice(template, subject, z, size=population.size, field=field)
    acquired = acquire(
        brain,
        acquisition,
        key=subject.key,
        z=z,
        field=field,
        draw=draw,
        acceleration=acceleration,
    )
    row = QmriBatch(
        kspace=acquired.kspace,
        mask=acquired.mask,
        sens=acquired.sens,
        target=acquired.target,
        roi=brain.roi,
        valid=np.array(True),
        sample_id=np.array(sample_id, np.int32),
    )
    gm, wm, csf, lesion = brain.mixture.fractions
    record = SliceRecord(
        sample_id=sample_id,
        subject=number,
        slice=slice_name(template, position),
        contrast=acquisition.protocol.contrast,
        acceleration=float(acceleration),
        sampled=float(acquired.mask.mean()),
        snr=acquired.snr,
        noise=acquired.noise,
        fractions=np.stack([gm, wm + lesion, csf]).astype(np.float16),
        lesion=brain.lesion,
    )
    return Drawn(row, (record,), (True,))


def collate(drawn: Sequence[Drawn]) -> QmriBatch:
    """B rows as one batch."""
    rows = zip(*(one.row for one in drawn), strict=True)
    batch = QmriBatch(*(np.stack(arrays) for arrays in rows))
    return batch._replace(valid=np.array([one.valid[0] for one in drawn], bool))


def _check(acquisition: Acquisition) -> None:
    """Say what is wrong before a worker does."""
    make_protocol(*acquisition.protocol)
    rates = acquisition.accelerations
    if not rates or min(rates) < 1:
        raise ValueError(
            f"accelerations={rates}: expected one or more, each at least 1"
        )

"""Simulated subjects to batches: endless for training, every slice once for evaluation.

Everything is a function of (seed, index): a draw does not depend on the batch's size,
on the number of hosts, or on what was drawn before. Parts are split by subject.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Bool, Float

from medjax.data.batches import gather, stream
from medjax.data.orders import evaluation_order, shuffled
from medjax.data.qmri.brains import Template, slice_height, slice_name
from medjax.data.qmri.rendering import render_slice
from medjax.data.qmri.simulate import Acquisition, acquire, make_protocol
from medjax.data.qmri.subjects import draw_subject, subject_numbers
from medjax.types import QmriBatch


class Population(NamedTuple):
    """The subjects, and how their slices are shown."""

    template: Template
    seed: int  # of all subjects; the same seed gives the same people everywhere
    size: int  # pixels a side, 16 or more
    field: float  # mm a side, 100 to 300
    lesion_share: float  # share of the subjects that have lesions, 0 to 1
    time_spread: float  # of all of a subject's T1, and T2; see `draw_subject`


class SliceRecord(NamedTuple):
    """What a report says about one slice of an evaluation."""

    sample_id: int  # that of the batch's row
    subject: int  # slices of one subject are resampled together
    slice: int  # voxel index in the template's own grid
    contrast: str  # "t2" or "t1"
    acceleration: float  # that the mask was drawn for
    sampled: float  # share of k-space that was measured, 0 to 1
    snr: float  # see `Acquisition.snr`
    noise: float  # deviation of the real part of fully sampled images
    fractions: Float[np.ndarray, "3 H W"]  # gm, wm (lesions included), csf; float16
    lesion: Bool[np.ndarray, "H W"]  # lesion in more than half of the pixel


class Drawn(NamedTuple):
    """One row of a batch, with its record, as `batches.gather` takes it."""

    row: QmriBatch  # without the axis B
    records: tuple[SliceRecord]  # one
    valid: tuple[bool]  # one; False: the row only fills a batch


def train_batches(
    population: Population,
    acquisition: Acquisition,
    *,
    subjects: int,
    batch: int,
    seed: int,
    process_index: int,
    process_count: int,
    part: str = "train",
) -> grain.IterDataset:
    """An endless stream of `QmriBatch` of NumPy arrays, all rows valid.

    Its iterator has `get_state` and `set_state`. The slices of all subjects come in a
    new order each epoch, with new masks and new noise; hosts take their parts of
    a batch in turn. `sample_id` is the draw's number.

    Args:
        population: The subjects whose slices are drawn; its seed decides who they are.
        acquisition: How each slice is measured. Of several accelerations each draw
            takes one at random.
        subjects: How many subjects of the part are used, 1 to 1,000,000; the first n
            are the same ones, however many more there are.
        batch: How many rows this host's part of a batch has, 1 or more.
        seed: Decides order, masks, accelerations and noise, 0 or more.
        process_index: The number of this host, from 0 to `process_count` - 1.
        process_count: How many hosts there are, 1 or more.
        part: "train", or "validation" for what is chosen on subjects that no training
            sees.

    Raises:
        ValueError: Accelerations are below 1 or missing, `make_protocol` refuses the
            protocol, the part is unknown, or the number of subjects is out of range.
    """
    _check(acquisition)
    numbers = subject_numbers(part, subjects)
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
    are not valid.

    Args:
        population: The subjects whose slices are measured; its seed decides who they
            are.
        acquisition: How each slice is measured, once at each of its accelerations.
        part: "validation" or "test", or "train" to look at what was trained on.
        subjects: How many subjects of that part are used, 1 to 1,000,000.
        batch: How many rows a batch has, 1 or more.
        seed: Decides masks, noise, and the order under `limit`, 0 or more.
        limit: At most so many rows come, in an order that is random but fixed: they are
            the same rows as without a limit. None gives all, in order.

    Raises:
        ValueError: The part is unknown, or `train_batches` would refuse the same.
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
    """One slice of one subject, measured once, with its record.

    Args:
        population: What all its subjects have in common.
        acquisition: How the slice is measured; its accelerations are not used.
        number: The number of the subject, 0 or more; `subject_numbers` gives those of a
            part.
        position: The number of the slice among the template's, from 0.
        draw: Non-negative numbers that tell this measurement from all others of the
            subject; equal ones give the same mask and noise.
        acceleration: The one that the mask is drawn for, 1 or more; a full mask ignores
            it.
        sample_id: The number that the row and its record get.
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
    """B rows, one or more of equal shapes, as one batch of NumPy arrays.

    Args:
        drawn: As `draw_slice` gives them; their records are left out.
    """
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

"""Scores of a mixed evaluation by domain, with intervals over blocks of slices."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medjax.data.batches import Parts
from medjax.data.boxes.batches import Record
from medjax.data.boxes.views import View, Views
from medjax.evals.boxes import Answers, bootstrap
from medjax.evals.tables import Interval
from medjax.recipes.boxes.score import make_answers, no_image_answers
from medjax.recipes.policy.scoring import collect
from medjax.recipes.policy.setup import Setup

METRICS = ("mIoU", "A@0.5", "A@0.8")
"""What is told of each domain."""


class DomainRow(NamedTuple):
    """What one contender scores in one domain."""

    contender: str
    domain: str
    questions: int
    structures: int  # different names that are asked for
    blocks: int  # resampled together
    scores: Mapping[str, Interval]  # by METRICS


def score_domains(
    setup: Setup,
    contender: str,
    baselines: bool,
    results: Iterable[Any],
    folder: Path,
) -> dict[str, list[DomainRow]]:
    """Rows of every domain, as the score of a `Stage` that writes nothing.

    Args:
        setup: Data, policy and how intervals are made.
        contender: What the rows call the policy.
        baselines: Whether the baselines that see no image have rows too.
        results: (predictions, metrics, records) of each batch, at least one.
        folder: It is not read, and nothing is written.

    Returns:
        The rows, under "rows".
    """
    del folder
    answered = collect(results, setup.policy.tokenizer)
    values, records = answered.values, answered.records
    found = {contender: make_answers(values["iou"], values["parsed"], records)}
    if baselines:
        found |= no_image_answers(
            setup.parts, setup.policy.geometry, records, seed=setup.seed
        )
    resampling = setup.evaluation.resampling
    rows = [
        row
        for name, answers in found.items()
        for row in domain_rows(name, answers, records, **resampling)
    ]
    return {"rows": rows}


def domain_rows(
    contender: str,
    answers: Answers,
    records: Sequence[Record],
    *,
    num_samples: int,
    level: float,
    seed: int,
) -> list[DomainRow]:
    """One row a domain, the first word of a record's plane, in the order of records.

    Intervals resample blocks of 8 neighbouring slices of a plane; where pictures are no
    slices, pictures.

    Args:
        contender: Whose answers these are.
        answers: One row a question.
        records: The questions, in the same order.
        num_samples: How many times blocks are drawn, 1 or more.
        level: The share of samples inside an interval, above 0 and below 1.
        seed: Decides the draws, 0 or more.
    """
    domains = np.array([record.plane.split()[0] for record in records])
    rows = []
    for domain in dict.fromkeys(domains.tolist()):
        here = domains == domain
        part = Answers(*(np.asarray(field)[here] for field in answers))
        scores = bootstrap(part, num_samples=num_samples, level=level, seed=seed)
        rows.append(
            DomainRow(
                contender,
                domain,
                questions=int(here.sum()),
                structures=len(set(part.structure.tolist())),
                blocks=len(set(part.slice_id.tolist())),
                scores={name: scores[name] for name in METRICS},
            )
        )
    return rows


def blinded(parts: Parts) -> Parts:
    """The parts with black test pictures: what a policy knows without looking.

    Args:
        parts: Those of a run about boxes.
    """
    return parts._replace(
        test=parts.test._replace(view=partial(_black, parts.test), outline=None)
    )


def _black(views: Views, index: int, rng: np.random.Generator) -> View:
    view = views.view(index, rng)
    return view._replace(images=tuple(np.zeros_like(image) for image in view.images))

"""Scores by domain, blocks resampled together, black pictures."""

import numpy as np

from medjax.data.batches import Parts
from medjax.data.boxes.batches import Record
from medjax.data.boxes.synthetic import synthetic_views
from medjax.recipes.boxes.domains import METRICS, blinded, domain_rows
from medjax.recipes.boxes.score import block_of, make_answers


def record(plane, position, structure="disc", slice_id="picture 0"):
    return Record(
        sample_id=0,
        image=np.zeros((8, 8, 3), np.uint8),
        query="Where?",
        structure=structure,
        box=np.array([0.0, 0.0, 4.0, 4.0]),
        slice_id=slice_id,
        area_fraction=0.25,
        plane=plane,
        position=position,
        columns={},
    )


def test_slices_of_a_block_are_resampled_together():
    assert block_of(record("MR axial", 16)) == block_of(record("MR axial", 23))
    assert block_of(record("MR axial", 16)) != block_of(record("MR axial", 24))
    assert block_of(record("MR axial", 16)) != block_of(record("MR coronal", 16))
    assert block_of(record("MR axial", 16)) != block_of(record("CT axial", 16))
    loose = record("nuclei microscopy", 0, slice_id="nuclei crop 3")
    assert block_of(loose) == "nuclei crop 3"


def test_each_domain_has_its_own_row():
    records = [
        *(record("MR axial", n, structure=f"s{n % 3}") for n in range(20)),
        *(record("shapes synthetic", 0, slice_id=f"picture {n}") for n in range(5)),
    ]
    iou = np.array([0.6] * 10 + [0.9] * 10 + [0.2] * 5)
    answers = make_answers(iou, np.ones(25, bool), records)
    first, second = domain_rows(
        "policy", answers, records, num_samples=50, level=0.9, seed=0
    )
    assert (first.domain, first.questions, first.structures, first.blocks) == (
        *("MR", 20, 3, 3),
    )
    assert (second.domain, second.questions, second.blocks) == ("shapes", 5, 5)
    assert tuple(first.scores) == METRICS
    np.testing.assert_allclose(first.scores["mIoU"].value, 0.75)
    np.testing.assert_allclose(first.scores["A@0.8"].value, 0.5)
    low, high = first.scores["A@0.8"].low, first.scores["A@0.8"].high
    assert 0 <= low < 0.5 < high <= 1  # blocks differ
    assert tuple(second.scores["mIoU"]) == (0.2, 0.2, 0.2)


def test_blinded_pictures_are_black_and_ask_the_same():
    views = synthetic_views(count=2, size=(32, 32), part="train", num_phrasings=1)
    seen = views.view(1, np.random.default_rng(0))
    blind = blinded(Parts(views, views, {})).test.view(1, np.random.default_rng(0))
    assert seen.images[0].any() and not blind.images[0].any()
    assert blind.names == seen.names
    np.testing.assert_array_equal(blind.boxes, seen.boxes)

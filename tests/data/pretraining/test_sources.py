"""Sources mixed by their shares, and what cannot be asked for."""

import numpy as np
import pytest

from medjax.data.boxes.slices import Look
from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.pretraining.held_out import HELD_OUT
from medjax.data.pretraining.looks import Changes
from medjax.data.pretraining.sources import Wanted, load_sources, mixed_views

LOOK = Look((64, 64), field=0.0, min_side=4, phrasings=2, tested="val")
STILL = Changes(0.1, (0.9, 1.1), 0.0, 0.0, 0.0, 0.0, 0.0)
FIELDS = {"mr_dk": 190.0, "ct_organs": 300.0}
WANTED = Wanted({}, LOOK, FIELDS, STILL, crop=80.0)


def numbered(count, name):
    """Views whose origin tells which one it is."""
    views = synthetic_views(count=count, size=(64, 64), part="train", num_phrasings=1)

    def view(index, rng):
        return views.view(index, rng)._replace(origin=f"{name} {index}")

    return views._replace(view=view, names=(name,), reasons=(f"{name} is here",))


def test_every_view_is_shown_and_shares_are_kept():
    parts = [(numbered(10, "a"), 3.0), (numbered(4, "b"), 1.0), (numbered(7, "c"), 0.1)]
    mixed = mixed_views(parts)
    origins = [
        mixed.view(n, np.random.default_rng(n)).origin for n in range(mixed.count)
    ]
    assert len(set(origins)) == 21
    counts = [sum(o.startswith(x) for o in origins) for x in "abc"]
    assert counts == [210, 70, 7]
    assert mixed.names == ("a", "b", "c") and len(mixed.reasons) == 3
    plain = mixed_views([(views, 0.0) for views, _ in parts])
    assert plain.count == 21


def test_drawn_shapes_are_told():
    parts = load_sources({"shapes": 2.0}, WANTED)
    view = parts.train.view(0, np.random.default_rng(0))
    assert view.reasons[0].startswith(f"synthetic generated; {view.names[0]}: ")
    assert set(view.reasons) <= set(parts.train.reasons)
    assert parts.identity["held_out"] == HELD_OUT._asdict()


@pytest.mark.parametrize(
    ("shares", "wanted", "match"),
    [
        ({}, WANTED, "no source: expected shares of some of mr_dk"),
        ({"mr": 1.0}, WANTED, "source 'mr': expected one of mr_dk"),
        ({"shapes": 0.0}, WANTED, "shares.shapes=0.0: expected a share above 0"),
        ({"shapes": float("nan")}, WANTED, "expected a share above 0"),
        (
            {"mr_dk": 1.0},
            WANTED._replace(structures={"mr_dk": ("left thalamus", "left putamen")}),
            "would ask for left putamen, which the table",
        ),
        (
            {"ct_organs": 1.0},
            WANTED._replace(structures={"ct_organs": "liver"}),
            "would ask for liver",
        ),
        (
            {"mr_dk": 1.0},
            WANTED._replace(structures={"mr_dk": ("left nose",)}),
            "structures.mr_dk: no left nose; expected 'seen'",
        ),
    ],
)
def test_wrong_sources_are_refused(shares, wanted, match):
    with pytest.raises(ValueError, match=match):
        load_sources(shares, wanted)


def test_a_volume_needs_its_field():
    try:
        with pytest.raises(ValueError, match="fields.mr_dk: expected mm above 0"):
            load_sources({"mr_dk": 1.0}, WANTED._replace(fields={}))
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")

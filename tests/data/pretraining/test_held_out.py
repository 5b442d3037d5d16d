"""The table of what is held out is kept, and overlaps are refused by name."""

import pytest

from medjax.data.pretraining.held_out import (
    HELD_OUT,
    refuse_held_out,
    refuse_seen,
    seen_structures,
)
from medjax.data.volumes.chest import CHEST_STRUCTURES
from medjax.data.volumes.desikan import select_desikan

KNOWN = {
    "mr_dk": select_desikan("all"),
    "ct_organs": tuple(structure.name for structure in CHEST_STRUCTURES),
}


@pytest.mark.parametrize("source", KNOWN)
def test_every_structure_is_either_seen_or_held_out(source):
    seen, held = seen_structures(source, KNOWN[source]), HELD_OUT.structures[source]
    assert set(seen) | set(held) == set(KNOWN[source])
    assert not set(seen) & set(held) and len(held) >= 4
    refuse_held_out(source, seen)
    refuse_seen(source, held)


def test_a_table_of_other_names_is_refused():
    with pytest.raises(ValueError, match="left hippocampus"):
        seen_structures("mr_dk", ("left insula",))
    assert seen_structures("shapes", ("disc",)) == ("disc",)


def test_pretraining_on_held_out_structures_is_refused_by_name():
    with pytest.raises(ValueError, match="ask for heart, spleen, which"):
        refuse_held_out("ct_organs", ("aorta", "heart", "spleen"))
    table = HELD_OUT._replace(structures={"mr_dk": ("left insula",)})
    with pytest.raises(ValueError, match="right insula"):  # seen in a mirrored picture
        refuse_held_out("mr_dk", ("right insula",), table)


def test_a_new_domain_of_seen_structures_is_refused_by_name():
    with pytest.raises(ValueError, match="left thalamus, which pretraining"):
        refuse_seen("mr_dk", ("left hippocampus", "left thalamus"))
    with pytest.raises(ValueError, match="aorta"):
        refuse_seen("ct_organs", ("aorta",))

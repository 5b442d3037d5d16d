import pytest

from medjax.data.volumes.anatomy import (
    CLEAR,
    STRUCTURES,
    UNIONS,
    other_side,
    select_structures,
)


def test_every_label_has_one_name():
    assert len(STRUCTURES) == 116
    assert len({s.name for s in STRUCTURES + UNIONS}) == 116 + len(UNIONS)
    labels = [label for s in STRUCTURES for label in s.labels]
    assert len(set(labels)) == 116
    assert {label for u in UNIONS for label in u.labels} <= set(labels)


@pytest.mark.parametrize("structure", STRUCTURES + UNIONS, ids=lambda s: s.name)
def test_side_of_the_name_is_the_side_of_the_labels(structure):
    sides = {label[-2:] for label in structure.labels}
    if structure.name.startswith(("left ", "right ")):
        assert sides == {f"_{structure.name[0].upper()}"}
    else:
        assert not sides & {"_L", "_R"}


def test_other_side_is_an_involution_that_mirrors_labels():
    by_name = {s.name: set(s.labels) for s in STRUCTURES + UNIONS}
    swap = {"_L": "_R", "_R": "_L"}
    for name, labels in by_name.items():
        mirrored = {x[:-2] + swap.get(x[-2:], x[-2:]) for x in labels}
        assert by_name[other_side(name)] == mirrored
        assert other_side(other_side(name)) == name


def test_unions_do_not_overlap_but_in_the_cerebrum_once():
    lobes = [u for u in UNIONS if u.name.startswith("left")]
    labels = [label for u in lobes for label in u.labels]
    assert len(labels) == len(set(labels))


def test_selection():
    assert len(select_structures("aal")) == 116
    assert select_structures("clear") == CLEAR
    assert set(CLEAR) <= set(select_structures("all"))
    assert select_structures(("left insula",)) == ("left insula",)
    with pytest.raises(ValueError, match="expected one of aal"):
        select_structures("big")
    with pytest.raises(ValueError, match="left nose"):
        select_structures(("left nose",))

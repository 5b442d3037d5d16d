"""Groups joined over columns and pixels, parts made of them or taken as stated."""

import itertools
import time

import networkx
import numpy as np
import pytest

from medjax.data.lists.groups import (
    Grouped,
    group_columns,
    group_names,
    join_groups,
    read_split,
    split_faults,
)
from medjax.data.lists.parts import HeldOut, groups_to_test, part_lines
from medjax.data.lists.reading import PLAIN


def line(n, content, split=None, **groups):
    return Grouped(f"a.csv, line {n}", f"{n}.png", groups, (content,), split)


def part(lines, **changes):
    held = HeldOut(0.5, seed=0)._replace(**changes)
    return part_lines(lines, join_groups(lines), held)


def test_groups_to_test_on_are_the_first_by_hash():
    keys = [f"p{n}" for n in range(10)] * 2
    groups = groups_to_test(keys, HeldOut(0.25, seed=1))
    assert len(groups) == 3 and groups < set(keys)
    assert groups == groups_to_test(keys[::-1], HeldOut(0.25, seed=1))
    assert groups != groups_to_test(keys, HeldOut(0.25, seed=2))
    with pytest.raises(ValueError, match="1 patients or images and test_share=0.5"):
        groups_to_test(["p0"], HeldOut(0.5, seed=0))


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["image", "label", "lesion_id", "dx"], ["lesion_id"]),
        (
            ["PatientID", "Study Instance UID", "age"],
            ["PatientID", "Study Instance UID"],
        ),
        (["patient", "site"], ["patient"]),
        (
            ["participant_id", "pid", "MRN", "accession_number", "personal"],
            ["participant_id", "pid", "MRN", "accession_number"],
        ),
    ],
)
def test_columns_that_group_by_their_names(columns, found):
    assert group_columns(columns, PLAIN, "a.csv") == found
    named = PLAIN._replace(group=(columns[-1],))
    assert columns[-1] in group_columns(columns, named, "a.csv")
    with pytest.raises(ValueError, match="a.csv: no column 'clinic', which data.group"):
        group_columns(columns, PLAIN._replace(group=("clinic",)), "a.csv")


def test_groups_are_joined_over_columns_and_pictures():
    lines = [
        line(0, "a", patient="p1", study="s1"),
        line(1, "b", patient="p2", study="s1"),  # by the study
        line(2, "c", patient="p3", study="s3"),
        line(3, "b", patient="p4", study="s4"),  # by the picture of line 1
        line(4, "d", patient="s1", study="p1"),  # the same words in other columns
    ]
    assert join_groups(lines) == [0, 0, 1, 0, 2]
    assert group_names(lines, join_groups(lines)) == {0: "p1", 1: "p3", 2: "s1"}


def test_groups_against_a_graph():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(0, 30, (40, 3)).astype(str)
        lines = [
            line(n, f"c{c}", patient=f"{p}", lesion=f"{q}")
            for n, (p, q, c) in enumerate(values)
        ]
        graph = networkx.Graph()
        graph.add_nodes_from(range(40))
        for a, b in itertools.combinations(range(40), 2):
            if (values[a] == values[b]).any():
                graph.add_edge(a, b)
        expected = {frozenset(c) for c in networkx.connected_components(graph)}
        groups = np.array(join_groups(lines))
        found = {frozenset(np.flatnonzero(groups == g).tolist()) for g in groups}
        assert found == expected


def test_no_group_is_in_two_parts():
    rng = np.random.default_rng(0)
    lines = [line(n, n, patient=f"p{rng.integers(20)}") for n in range(100)]
    parting = part(lines, share=0.3)
    mine, theirs = ({lines[n].groups["patient"] for n in x} for x in parting)
    assert mine and theirs and not mine & theirs
    assert sorted(parting.train + parting.test) == list(range(100))


def test_parts_do_not_depend_on_the_order_of_lines():
    lines = [line(n, n, patient=f"p{n % 9}", study=f"s{n % 18}") for n in range(36)]
    first, again = part(lines).test, part(lines[::-1]).test
    assert {lines[n].name for n in first} == {lines[35 - n].name for n in again}


STATED = ["train"] * 4 + ["val"] * 2 + ["test"] * 3


def test_official_parts_are_taken():
    lines = [line(n, n, split) for n, split in enumerate(STATED)]
    assert part(lines) == ((0, 1, 2, 3), (6, 7, 8))
    assert part(lines, tested="val") == ((0, 1, 2, 3), (4, 5))
    without = [line(n, n, split) for n, split in enumerate(STATED) if split != "val"]
    tuned = part(without, tested="val", share=0.25)
    assert len(tuned.train) == 3 and len(tuned.test) == 1  # of train, none of test
    assert not {4, 5, 6} & {*tuned.train, *tuned.test}
    with pytest.raises(ValueError, match=r"no line is in test \(found 4 train, 2 val"):
        part(lines[:6])
    with pytest.raises(ValueError, match="line 9: no split, but other lines state"):
        part([*lines, line(9, 9)])
    with pytest.raises(ValueError, match="test='dev': expected one of"):
        part(lines, tested="dev")


@pytest.mark.parametrize("word", ["val", "valid", "Valid", "validation"])
def test_words_of_parts(word):
    assert read_split(word, "x") == "val"
    for other in ("dev", "", None, 1):
        with pytest.raises(ValueError, match="expected train, val"):
            read_split(other, "x")


@pytest.mark.parametrize(
    ("second", "shared"),
    [
        (line(2, "b", "test", patient="p1"), "the same patient"),
        (line(2, "a", "test", patient="p2"), "the same picture"),
        (line(2, ("near", 3), "test", patient="p2"), "a near-duplicate"),
        (line(2, ("file", "b"), "test", patient="p2"), "the same file"),
    ],
)
def test_official_parts_that_contradict_name_both_lines(second, shared):
    both = ("a", *(c for c in second.contents if c not in ("a", "b")))
    lines = [line(1, "a", "train", patient="p1")._replace(contents=both), second]
    (fault,) = split_faults(lines, join_groups(lines))
    expected = f"a.csv, line 2: split test, but a.csv, line 1, of {shared}, is in train"
    assert fault.message.startswith(expected)


def test_official_parts_that_contradict_over_a_third_line():
    lines = [
        line(1, "a", "train", patient="p1", study="s1"),
        line(2, "b", "train", patient="p2", study="s1"),
        line(3, "c", "test", patient="p2", study="s2"),
    ]
    (fault,) = split_faults(lines, join_groups(lines))
    assert (
        fault.origin == "a.csv, line 3" and "line 2, of the same pat" in fault.message
    )


def test_a_column_is_there_on_all_lines_or_none():
    with pytest.raises(ValueError, match="line 2: no lesion, but other lines name"):
        part([line(1, "a", lesion="x"), line(2, "b"), line(3, "c", lesion="y")])


def test_joining_takes_linear_time():
    def seconds(count):
        lines = [
            line(n, n, patient=f"p{n // 3}", study=f"s{n // 2}") for n in range(count)
        ]
        start = time.perf_counter()
        join_groups(lines)
        return time.perf_counter() - start

    seconds(1000)
    assert seconds(40_000) < 40 * max(seconds(5000), 1e-3)  # 8 times, with room

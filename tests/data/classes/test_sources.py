"""Tasks by name, a user's own pictures, and the words about them."""

import json

import numpy as np
import pytest
from PIL import Image

from medjax.data.classes.label_sets import rarest_labels
from medjax.data.classes.pictures import class_counts
from medjax.rl.text.words import split_words
from tests.data.medmnist_files import write_chest
from tests.recipes.smoke_labels import label_parts


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of two classes from six patients, and their descriptions."""
    rng = np.random.default_rng(0)
    lines = ["image,label,patient"]
    for n in range(12):
        pixels = rng.integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        lines.append(f"{n}.png,{('cyst', 'solid')[n % 2]},p{n // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    describe(tmp_path, {"cyst": "dark, sharp border", "solid": "grey, uneven border"})
    return tmp_path


def describe(folder, classes):
    text = json.dumps({"task": "lesions", "sources": [], "classes": classes})
    (folder / "descriptions.json").write_text(text)


def test_a_built_in_task_with_its_words():
    found = label_parts("task=shapes")
    assert found.wording.task.name == "shapes" and not found.wording.task.ordinal
    assert found.wording.knowledge is not None
    assert all(len(reason.split()) <= 5 for reason in found.wording.reasons)
    assert found.parts.train.sizes == ((56, 56),)
    json.dumps(found.parts.identity)  # goes into a checkpoint


def test_knowledge_is_in_the_prompt_only_where_it_is_wanted():
    found = label_parts("task=shapes,prompt=off")
    assert found.wording.knowledge is None
    # the reasons and what is recited stay the descriptions'
    assert found.wording.reasons == label_parts("task=shapes").wording.reasons
    assert found.parts.identity != label_parts("task=shapes").parts.identity


def test_every_clause_is_a_reference_of_its_class():
    found = label_parts("task=shapes,prompt=off")
    lengths, owners = found.references.lengths, found.references.owners
    # "darker than the ground, round with an even curved edge"
    assert lengths[owners == 0].tolist() == [10, 4, 6]
    assert split_words("a round, even edge") == [b"a", b"round", b"even", b"edge"]


def test_classes_are_shown_equally_often(folder):
    found = label_parts(f"data={folder}", test_share=0.4)
    counts = np.bincount(found.parts.train.labels[:, 0])
    assert counts[0] == counts[1]


def test_what_is_known_is_not_balanced(folder):
    """Six training pictures of one class and two of the other: reports have to say so,
    and the majority is the first.
    """
    lines = ["image,label,split"]
    for n in range(12):
        name = "solid" if n % 4 else "cyst"
        lines.append(f"{n}.png,{name},{'train' if n < 8 else 'test'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    found = label_parts(f"data={folder}")
    assert class_counts(found.known, 2).tolist() == [2, 6]
    assert class_counts(found.parts.train, 2).tolist() == [6, 6]


def test_the_policys_words_are_the_same_whatever_the_prompt():
    told, bare = label_parts("prompt=on"), label_parts("prompt=off")
    assert told.told.knowledge == bare.told.knowledge == told.wording.knowledge
    assert bare.wording.knowledge is None


def test_a_users_folder_with_its_descriptions_beside(folder):
    found = label_parts(f"data={folder}")
    assert found.wording.task.classes == ("cyst", "solid")
    assert found.wording.knowledge == ("dark, sharp border", "grey, uneven border")
    groups = [
        {part.picture(n, np.random.default_rng(0)).group for n in range(part.count)}
        for part in (found.parts.train, found.parts.test)
    ]
    assert not groups[0] & groups[1]


def test_missing_descriptions_say_what_needs_them(folder):
    (folder / "descriptions.json").unlink()
    with pytest.raises(FileNotFoundError, match="the prompt needs; write descriptions"):
        label_parts(f"data={folder}")
    with pytest.raises(FileNotFoundError, match="which the recitation needs"):
        label_parts(f"data={folder},prompt=off")
    found = label_parts(f"data={folder},parts=none")
    assert found.wording.reasons == ("cyst", "solid")


def test_a_class_without_a_description_is_named(folder):
    describe(folder, {"cyst": "dark"})
    with pytest.raises(ValueError, match=r"no description of \['solid'\]"):
        label_parts(f"data={folder}")
    (folder / "descriptions.json").write_text("")
    with pytest.raises(ValueError, match="the file is empty"):
        label_parts(f"data={folder}")


def test_unknown_sources_list_what_there_is():
    with pytest.raises(
        FileNotFoundError, match="did you mean 'ct_lung'. Expected one of ct_organ"
    ):
        label_parts(source="mr_lung")


def test_a_medmnist_file(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 20), ("val", 5), ("test", 10)):
        arrays[f"{part}_images"] = rng.integers(0, 255, (count, 28, 28, 3), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 5)[:, None]
    np.savez(tmp_path / "retinamnist.npz", **arrays)
    found = label_parts(f"data={tmp_path}/retinamnist.npz")
    assert found.wording.task.ordinal and len(found.wording.task.classes) == 5
    assert (found.parts.train.count, found.parts.test.count) == (20, 10)
    del arrays["val_labels"]
    np.savez(tmp_path / "retinamnist.npz", **arrays)
    with pytest.raises(ValueError, match="no val_labels"):
        label_parts(f"data={tmp_path}/retinamnist.npz")


@pytest.mark.parametrize(
    ("source", "changes", "name"),
    [
        ("shapes", {"answers": "set"}, "answers='set'"),
        ("shapes", {"ordinal": True}, "ordinal=True"),
        ("shapes", {"question": "What?"}, "question='What.'"),
        ("chestmnist", {"question": "What?"}, "question='What.'"),
    ],
)
def test_options_that_a_kind_of_source_never_reads(tmp_path, source, changes, name):
    chosen = "task=shapes"
    if source == "chestmnist":
        write_chest(tmp_path / "chestmnist.npz", counts=(4, 2, 2))
        chosen = f"data={tmp_path}/chestmnist.npz"
    with pytest.raises(ValueError, match=f"data.{name} does not concern {source}"):
        label_parts(chosen, **changes)


def test_chest_pictures_with_their_words(tmp_path):
    """Reasonings of all classes and of none; each rarest class equally often."""
    write_chest(tmp_path / "chestmnist.npz")
    found = label_parts(f"data={tmp_path}/chestmnist.npz,recite=none")
    task = found.wording.task
    assert task.multi and len(found.wording.reasons) == 15
    assert found.parts.identity["words"]["multi"] is True
    kinds = np.bincount(rarest_labels(found.known.labels), minlength=15)
    assert found.parts.train.count == kinds.max() * np.count_nonzero(kinds)
    assert found.known.count == 24


def labelled_folder(folder, *, rare):
    """Twelve pictures, ten of them to train on; `rare` of these are solid."""
    lines = ["image,label,split"]
    for n in range(12):
        name = "solid" if n < rare or n == 10 else "cyst"
        lines.append(f"{n}.png,{name},{'train' if n < 10 else 'test'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return f"data={folder}"


def test_few_labels_leave_the_test_as_it_is(folder):
    where = labelled_folder(folder, rare=5)
    whole, few = label_parts(where), label_parts(where, labelled=6)
    assert (whole.known.count, few.known.count) == (10, 6)
    counts = class_counts(few.known, 2)
    assert class_counts(few.parts.train, 2).tolist() == [counts.max()] * 2  # balanced
    assert few.parts.test.count == whole.parts.test.count == 2
    for n in range(2):
        one, other = (x.parts.test.picture(n, None).image for x in (whole, few))
        np.testing.assert_array_equal(one, other)
    # a run with other labels is another run
    assert "labelled" not in whole.parts.identity
    assert few.parts.identity["labelled"] == [6, 0]
    assert label_parts(where, labelled=10).parts.identity["labelled"] == [10, 0]
    # words and what is recited do not change
    assert few.wording == whole.wording and few.parts.notes == whole.parts.notes


def test_labels_that_there_are_not_are_refused(folder):
    where = labelled_folder(folder, rare=5)
    with pytest.raises(ValueError, match="labelled=11: expected 1 to 10, the pictures"):
        label_parts(where, labelled=11)
    with pytest.raises(ValueError, match="labelled=-1: expected 1 to 10"):
        label_parts(where, labelled=-1)


def test_a_class_without_a_labelled_picture_is_named(folder):
    """One picture of ten is solid: two of them are drawn, by this seed without it."""
    where = labelled_folder(folder, rare=1)
    with pytest.raises(
        ValueError,
        match=r"labelled=2: no picture of solid is among .* seed 0 from the 10 .*label",
    ):
        label_parts(where, labelled=2)
    assert label_parts(where, labelled=10).known.count == 10


def test_every_class_of_several_has_a_labelled_picture(tmp_path):
    write_chest(tmp_path / "chestmnist.npz")
    where = f"data={tmp_path}/chestmnist.npz,recite=none"
    whole = label_parts(where).known
    with pytest.raises(ValueError, match="labelled=1: no picture of .*, .* is among"):
        label_parts(where, labelled=1)
    found = label_parts(where, labelled=whole.count)
    np.testing.assert_array_equal(found.known.labels, whole.labels)

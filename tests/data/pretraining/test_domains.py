"""New domains: other looks, and no structure that pretraining asked for."""

import numpy as np
import pytest

from medjax.data.boxes.slices import Look, atlas_views
from medjax.data.pretraining.domains import LUNG_WINDOW, NEW_DOMAINS, select_new
from medjax.data.pretraining.held_out import HELD_OUT
from medjax.data.volumes.atlas import slice_image
from medjax.data.volumes.chest import load_chest
from medjax.data.volumes.desikan import load_desikan
from medjax.data.volumes.table import VOLUMES

LOOK = Look((112, 112), field=190.0, min_side=10, phrasings=2)
SOURCES = {"mr_new": "mr_dk", "ct_new": "ct_organs"}


@pytest.fixture(params=SOURCES)
def name(request):
    return request.param


@pytest.fixture
def atlas(name):
    try:
        return NEW_DOMAINS[name].load()
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")


def test_names_are_not_those_of_another_volume():
    assert not NEW_DOMAINS.keys() & VOLUMES.keys() and NEW_DOMAINS.keys() == {*SOURCES}


def test_only_what_is_held_out_can_be_asked_for(name):
    held = HELD_OUT.structures[SOURCES[name]]
    select = NEW_DOMAINS[name].select
    assert select("all") == held
    assert select(held[0]) == select((held[0],)) == held[:1]
    with pytest.raises(ValueError, match="pretraining asked for too: expected some of"):
        select((held[0], "left caudate nucleus", "aorta"))
    with pytest.raises(ValueError, match="left thalamus, which pretraining"):
        select_new("mr_dk", "left thalamus")


def test_structures_are_where_they_were_in_another_look(name, atlas):
    if name == "mr_new":
        before = load_desikan()
        np.testing.assert_array_equal(
            atlas.volume.astype(int) + before.volume, np.full(atlas.volume.shape, 255)
        )
    else:
        chest = load_chest()
        before, (level, width) = chest.atlas, LUNG_WINDOW
        grey = slice_image(atlas.volume, "axial", 100).astype(float)
        hounsfield = slice_image(chest.hounsfield, "axial", 100).astype(float)
        inside = abs(hounsfield - level) < width / 2 - 10
        # half a grey level, in units of the window
        shown = grey[inside] / 255 * width + level - width / 2
        assert abs(shown - hounsfield[inside]).max() <= 0.51 * width / 255
        assert level < HELD_OUT.lowest_level
    np.testing.assert_array_equal(atlas.boxes, before.boxes)
    assert atlas.names == before.names


def test_there_are_enough_pictures_for_both_parts(name, atlas):
    """The numbers that docs/pretrained.md gives."""
    volume = NEW_DOMAINS[name]
    counts = {}
    for part in ("train", "test"):
        views = atlas_views(
            atlas,
            names=volume.select("all"),
            modality=volume.modality,
            split="moved",
            part=part,
            look=LOOK._replace(field=190.0 if name == "mr_new" else 300.0),
            seed=0,
        )
        assert set(views.names) == set(HELD_OUT.structures[SOURCES[name]])
        counts[part] = views.count
    assert (
        counts
        == {"mr_new": {"train": 251, "test": 49}, "ct_new": {"train": 289, "test": 56}}[
            name
        ]
    )

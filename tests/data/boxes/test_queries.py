import pytest

from medjax.data.boxes.queries import NUM_PHRASINGS, phrasings
from medjax.data.volumes.atlas import MR


def test_every_phrasing_names_the_structure_and_all_differ():
    texts = phrasings("left insula", plane="axial", modality=MR, count=NUM_PHRASINGS)
    assert len(set(texts)) == NUM_PHRASINGS >= 6
    assert all("left insula" in text for text in texts)
    assert any("axial" in text and MR in text for text in texts)
    assert not any("{" in text or "<" in text for text in texts)


def test_fewer_are_the_first_ones():
    args = {"plane": "coronal", "modality": MR}
    whole = phrasings("thalamus", **args, count=NUM_PHRASINGS)
    assert phrasings("thalamus", **args, count=2) == whole[:2]


@pytest.mark.parametrize("count", [0, NUM_PHRASINGS + 1])
def test_impossible_counts(count):
    with pytest.raises(ValueError, match="there are 1 to"):
        phrasings("thalamus", plane="axial", modality=MR, count=count)

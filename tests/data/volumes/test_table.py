"""The table of volumes: each row can be asked, and loads what its names say."""

import pytest

from medjax.data.volumes.table import VOLUMES


@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume_shows_the_structures_it_selects(name):
    volume = VOLUMES[name]
    names = volume.select("all")
    assert len(set(names)) == len(names) and volume.select(names[:2]) == names[:2]
    with pytest.raises(ValueError, match="nose"):
        volume.select(("nose",))
    try:
        atlas = volume.load()
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")
    assert set(names) <= set(atlas.names)

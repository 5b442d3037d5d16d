import numpy as np
import pytest

from medjax.data.volumes.anatomy import STRUCTURES
from medjax.data.volumes.atlas import (
    AAL,
    PLANES,
    TEMPLATE,
    brain_mask,
    build_atlas,
    load_atlas,
    main_piece,
    piece_mask,
    read_pair,
    slice_centre,
    slice_image,
)
from medjax.data.volumes.packs import fetch_pack
from tests.data.toy_atlas import SHAPE, make_volumes


def pieces(mask):
    """4-connected pieces by flood fill, pixel after pixel."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    found = []
    while left:
        queue, piece = [left.pop()], set()
        while queue:
            y, x = queue.pop()
            piece.add((y, x))
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            queue += near
        found.append(piece)
    return found


def test_boxes_equal_a_flood_fill_in_every_slice(atlas):
    _, labels, names = make_volumes()
    values = {name: value for value, name in names.items()}
    by_name = {s.name: s.labels for s in STRUCTURES}
    expected = {}
    for plane in PLANES:
        for position in range(SHAPE[2 - PLANES.index(plane)]):
            picture = slice_image(labels, plane, position)
            for name in atlas.names:
                if name not in by_name:
                    continue  # a union
                mask = np.isin(picture, [values[x] for x in by_name[name]])
                if mask.sum() < 40:
                    continue
                piece = np.array(sorted(max(pieces(mask), key=len)))
                (y1, x1), (y2, x2) = piece.min(axis=0), piece.max(axis=0) + 1
                if len(piece) >= 0.8 * mask.sum() and min(y2 - y1, x2 - x1) >= 6:
                    expected[plane, position, name] = (x1, y1, x2, y2)
    found = {}
    for pair, (s, m) in enumerate(zip(atlas.structure, atlas.slice_of, strict=True)):
        if atlas.names[s] in by_name:
            key = (PLANES[atlas.plane[m]], int(atlas.position[m]), atlas.names[s])
            found[key] = tuple(atlas.boxes[pair].tolist())
    assert found == expected


def test_union_is_the_union_of_its_labels(atlas):
    _, labels, names = make_volumes()
    chosen = [v for v, n in names.items() if n in ("Putamen_R", "Pallidum_R")]
    index = atlas.names.index("right lentiform nucleus")
    pairs = np.flatnonzero(atlas.structure == index)
    assert len(pairs)
    for pair in pairs:
        m = atlas.slice_of[pair]
        picture = slice_image(labels, PLANES[atlas.plane[m]], int(atlas.position[m]))
        x1, y1, x2, y2 = atlas.boxes[pair]
        shown = np.isin(picture, chosen)[y1:y2, x1:x2]
        assert (piece_mask(atlas, pair) <= shown).all()
        assert piece_mask(atlas, pair).sum() >= 0.8 * np.isin(picture, chosen).sum()


def test_masks_are_tight(atlas):
    for pair in range(0, len(atlas.structure), 7):
        mask = piece_mask(atlas, pair)
        assert mask[0].any() and mask[-1].any()
        assert mask[:, 0].any() and mask[:, -1].any()


def test_views_are_radiological():
    volume = np.zeros((4, 5, 6), np.uint8)
    volume[3, 4, 5] = 9  # right, front, top
    assert slice_image(volume, "axial", 5)[0, 0] == 9  # right at the left, front up
    assert slice_image(volume, "coronal", 4)[0, 0] == 9  # right at the left, top up
    assert slice_image(volume, "sagittal", 3)[0, 0] == 9  # front at the left, top up
    for plane, shape in zip(PLANES, [(5, 4), (6, 4), (6, 5)], strict=True):
        assert slice_image(volume, plane, 0).shape == shape
    with pytest.raises(ValueError, match="oblique"):
        slice_image(volume, "oblique", 0)


@pytest.mark.parametrize("plane", PLANES)
def test_centre_is_where_the_voxel_is(plane):
    volume = np.zeros((9, 11, 13), np.uint8)
    centre = np.array([2, 7, 4])
    volume[tuple(centre)] = 1
    picture = slice_image(volume, plane, int(centre[2 - PLANES.index(plane)]))
    ((y, x),) = np.argwhere(picture)
    assert slice_centre(volume.shape, centre, plane) == (x + 0.5, y + 0.5)


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (np.ones((6, 7), bool), (0, 0, 7, 6)),
        (np.ones((5, 9), bool), None),  # a side of 5
        (np.ones((6, 6), bool), None),  # 36 pixels
        (np.pad(np.ones((8, 8), bool), ((1, 2), (3, 4))), (3, 1, 11, 9)),
    ],
)
def test_rule_of_a_fair_target(mask, box):
    piece = main_piece(mask)
    assert (piece and piece[0]) == box


def test_scattered_labels_are_no_target():
    mask = np.zeros((20, 20), bool)
    mask[:8, :8] = True
    mask[10:16, 10:12] = True  # 12 of 76: 84 % are in the main piece
    assert main_piece(mask)[0] == (0, 0, 8, 8)
    mask[10:16, 10:14] = True  # 24 of 88: 73 %
    assert main_piece(mask) is None


def test_diagonal_neighbours_are_two_pieces():
    mask = np.zeros((16, 16), bool)
    mask[:8, :8] = mask[8:, 8:] = True
    assert main_piece(mask) is None


@pytest.mark.network
def test_real_atlas(real_atlas):
    """116 labels and their unions; the brain's middle and the patient's right."""
    assert len(real_atlas.names) == 116 + 15
    assert (np.abs(real_atlas.centre - (98, 117, 77)) <= 2).all()
    single = real_atlas.structure < 116
    assert single.sum() == 11158
    assert len(set(real_atlas.slice_of[single].tolist())) == 464
    for word, sign in (("left", 1), ("right", -1)):
        pairs = real_atlas.structure == real_atlas.names.index(f"{word} putamen")
        axial = real_atlas.plane[real_atlas.slice_of] != PLANES.index("sagittal")
        x = real_atlas.boxes[pairs & axial][:, [0, 2]].mean(axis=1)
        assert (sign * (x - 98.5) > 10).all()


@pytest.mark.network
def test_real_counts_before_cutting_at_the_surface(real_atlas):
    """The numbers of the plain rule: 11,383 triples in 470 slices."""
    template, atlas = fetch_pack(TEMPLATE), fetch_pack(AAL)
    volume, labels = read_pair(
        template["mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"], atlas["AAL.nii"]
    )
    words = atlas["AAL.txt"].read_text().split()
    names = {int(v): n for v, n in zip(words[::2], words[1::2], strict=True)}
    plain = build_atlas(volume, labels, names, STRUCTURES)
    assert (len(plain.structure), len(plain.plane)) == (11383, 470)
    assert len(set(plain.structure.tolist())) == 116
    outside = labels[~brain_mask(volume)] > 0
    assert 0.04 < outside.sum() / (labels > 0).sum() < 0.06


@pytest.mark.network
def test_real_atlas_is_kept(real_atlas, monkeypatch):
    monkeypatch.setattr("medjax.data.volumes.atlas.build_atlas", None)
    again = load_atlas()
    for before, after in zip(real_atlas, again, strict=True):
        np.testing.assert_array_equal(before, after)

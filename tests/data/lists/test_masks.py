import numpy as np
import pytest
from PIL import Image

from medjax.data.lists.masks import mask_regions, read_mask, read_names
from tests.data import folders

BOXES = [(3, 4, 20, 12), (30, 20, 50, 39)]


def regions(path, names="a", pieces="whole"):
    values = read_mask(path, "mask")
    found = mask_regions(values, names, pieces=pieces, origin="mask")
    return [(one.label, one.box) for one in found]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.jpg", "a.jpeg"])
def test_boxes_are_tight_in_every_kind_of_file(tmp_path, name):
    path = folders.mask(tmp_path / name, boxes=BOXES)
    assert regions(path, pieces="components") == [("a", box) for box in BOXES]
    assert regions(path) == [("a", (3, 4, 50, 39))]


def test_a_jpeg_rings_and_is_cut_at_half(tmp_path):
    path = tmp_path / "a.jpg"
    pixels = np.zeros((64, 64), np.uint8)
    pixels[21:43, 19:38] = 255
    Image.fromarray(pixels).save(path, quality=60)
    ringing = np.asarray(Image.open(path)) > 0
    assert np.flatnonzero(ringing.any(0))[[0, -1]].tolist() != [19, 37]
    assert regions(path) == [("a", (19, 21, 38, 43))]


def test_a_jpeg_of_zeros_and_ones_is_refused(tmp_path):
    path = folders.mask(tmp_path / "a.jpg", boxes=BOXES, value=1)
    with pytest.raises(ValueError, match="largest value of the JPEG mask a.jpg is 1"):
        read_mask(path, "mask")


def test_labels_of_a_map_have_names(tmp_path):
    path = folders.mask(tmp_path / "a.png", boxes=BOXES, values=[1, 7])
    names = {1: "liver", 7: "spleen", 9: "kidney"}
    assert regions(path, names) == [("liver", BOXES[0]), ("spleen", BOXES[1])]
    with pytest.raises(ValueError, match="the values 1, 7 beside 0; expected one of"):
        regions(path)
    with pytest.raises(ValueError, match="the values 7, which data.names does not"):
        regions(path, {1: "liver"})


def test_modes_of_pictures_that_hold_labels(tmp_path):
    values = np.zeros((20, 20), np.uint8)
    values[3:9, 4:12] = 2
    names, expected = {2: "a", 300: "b"}, [("a", (4, 3, 12, 9))]
    colours = Image.fromarray(values, "P")
    colours.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    greys = Image.fromarray((values > 0).astype(np.uint8), "P")
    greys.putpalette([0, 0, 0, 2, 2, 2])
    opaque = np.full_like(values, 255)
    pictures = {
        "palette.png": colours,
        "greys.png": greys,
        "rgb.png": Image.fromarray(np.stack([values] * 3, -1)),
        "rgba.png": Image.fromarray(np.stack([*[values] * 3, opaque], -1)),
        "deep.png": Image.fromarray(values.astype(np.uint16)),
        "deep.tif": Image.fromarray(values.astype(np.int32)),
        "float.tif": Image.fromarray(values.astype(np.float32)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        assert regions(tmp_path / name, names) == expected, name
    Image.fromarray(values > 0).save(tmp_path / "bits.png")
    assert regions(tmp_path / "bits.png") == expected


def test_masks_that_mean_no_labels_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 9, (9, 9, 3), np.uint8)).save(tmp_path / "c.png")
    halves = np.full((9, 9), 0.5, np.float32)
    Image.fromarray(halves).save(tmp_path / "f.tif")
    Image.fromarray(halves * np.nan).save(tmp_path / "n.tif")
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    page = Image.fromarray(np.zeros((9, 9), np.uint8))
    page.save(tmp_path / "p.tif", save_all=True, append_images=[page])
    for name, message in {
        "c.png": "the mask c.png is coloured; expected one channel",
        "f.tif": "float32 values that are no labels; expected whole numbers",
        "n.tif": "float32 values that are no labels",
        "p.tif": "the mask p.tif has 2 pages; expected one",
        "x.png": "mask: cannot read the mask x.png",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_mask(tmp_path / name, "mask")


def test_components_touch_at_corners(tmp_path):
    path = folders.mask(tmp_path / "a.png", boxes=[(1, 1, 4, 4), (4, 4, 9, 9)])
    assert regions(path, pieces="components") == [("a", (1, 1, 9, 9))]


def test_a_picture_that_exif_turns_has_a_mask_that_is_turned_alike(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((40, 56), np.uint8)
    pixels[4:12, 3:20] = 255
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "image.jpg", exif=exif)
    folders.mask(tmp_path / "plain.png", boxes=BOXES)
    image = tmp_path / "image.jpg"
    assert read_mask(tmp_path / "turned.png", "m", image=image).shape == (56, 40)
    with pytest.raises(ValueError, match="image.jpg is turned by its EXIF orientation"):
        read_mask(tmp_path / "plain.png", "m", image=image)


def test_a_plain_tiff_that_is_turned_is_not_scrambled(tmp_path):
    stored = np.zeros((20, 30), np.uint8)
    stored[2:5, 4:9] = 1
    exif = Image.Exif()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        for name in ("image.tif", "mask.tif"):
            Image.fromarray(stored).save(tmp_path / name, exif=exif)
        values = read_mask(tmp_path / "mask.tif", "x", image=tmp_path / "image.tif")
        turned = np.rot90(stored, -1) if orientation == 6 else stored
        np.testing.assert_array_equal(values, turned)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("nodule", "nodule"),
        ("", "target"),
        ('{"1": "liver", "0": "background"}', {1: "liver"}),
    ],
)
def test_names_are_one_or_a_table(tmp_path, names, expected):
    assert read_names(names, tmp_path) == expected
    (tmp_path / "names.json").write_text('{"2": "cyst"}')
    assert read_names("", tmp_path) == {2: "cyst"}
    assert read_names(str(tmp_path / "names.json"), tmp_path) == {2: "cyst"}


@pytest.mark.parametrize(
    "names",
    ['{"1": 2}', '{"a": "b"}', "{", "{}", '{"1": "a", "2": "a"}', '{"01": "a"}'],
)
def test_tables_that_name_nothing_are_refused(tmp_path, names):
    with pytest.raises(ValueError, match="data.names"):
        read_names(names, tmp_path)


def test_a_value_that_is_named_twice_is_refused(tmp_path):
    twice = '{"1": "liver", "1": "spleen"}'
    with pytest.raises(ValueError, match="data.names: key '1' is there twice"):
        read_names(twice, tmp_path)


def test_a_file_of_names_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.names='a/none.json': no such"):
        read_names("a/none.json", tmp_path)

"""Nuclei of a drawn image: areas, grades, and parts that share no pixel."""

import numpy as np
import pytest
from PIL import Image

from medjax.data.classes.nuclei import (
    SIZES,
    Nuclei,
    find_nuclei,
    load_nuclei,
    read_nuclei,
    size_pictures,
    split_nuclei,
)
from medjax.data.classes.pictures import PictureLook, class_counts

HEIGHT, WIDTH = 130, 400
LOOK = PictureLook((28, 28), 20.0, 0.0, 0.0, 0.1, (1.0, 1.0))


def make_image(*, tall=0):
    """Bright rectangles on a grid, 25 pixels apart, each row taller than the one above.

    Their labels are every third number. `tall` is added to the height of those in the
    test's strip.
    """
    image = np.full((HEIGHT, WIDTH), 20, np.uint8)
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    known = {}  # label: (x, y, area)
    for row, y in enumerate(range(15, HEIGHT - 10, 25)):
        for column, x in enumerate(range(15, WIDTH - 10, 25)):
            high = 4 + 2 * row + (tall if x < WIDTH / 5 else 0)
            wide = 4 + 2 * (column % 2)
            box = np.s_[y - high // 2 : y + high // 2, x - wide // 2 : x + wide // 2]
            label = 3 * (len(known) + 1)
            image[box], labels[box] = 200, label
            known[label] = (x, y, high * wide)
    return image, labels, known


@pytest.fixture(scope="module")
def nuclei():
    image, labels, _ = make_image()
    return find_nuclei(image, labels)


def shown(pictures, seeds=1):
    return [
        pictures.picture(n, np.random.default_rng((n, seed)))
        for n in range(pictures.count)
        for seed in range(seeds)
    ]


def groups(pictures):
    return {picture.group for picture in shown(pictures)}


def test_areas_and_centres(nuclei):
    known = make_image()[2]
    assert nuclei.label.tolist() == list(known)
    found = np.column_stack([nuclei.centre, nuclei.area])
    assert np.array_equal(found, np.array(list(known.values())))


@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_nuclei_at_the_border_are_left_out(gap, side):
    labels = np.zeros((60, 70), np.int32)
    labels[20:26, 20:26] = 1
    rows = {"top": slice(gap, gap + 5), "bottom": slice(55 - gap, 60 - gap)}
    columns = {"left": slice(gap, gap + 5), "right": slice(65 - gap, 70 - gap)}
    labels[rows.get(side, slice(40, 45)), columns.get(side, slice(40, 45))] = 2
    found = find_nuclei(np.zeros((60, 70), np.uint8), labels)
    assert found.label.tolist() == ([1, 2] if gap == 2 else [1])


def test_strips(nuclei):
    x = nuclei.centre[:, 0]
    parts = split_nuclei(nuclei, LOOK)
    assert (parts[x < 80] == 1).all() and not (parts[x >= 80] == 1).any()
    assert (parts[x > 120] == 0).all()
    tuned = split_nuclei(nuclei, LOOK._replace(tested="val"))
    assert (tuned[x < 80] == -1).all() and (tuned[x >= 320] == 1).all()
    assert (parts[(tuned == 0) | (tuned == 1)] == 0).all()  # nothing of the test's
    with pytest.raises(ValueError, match="tested='all': expected one of"):
        split_nuclei(nuclei, LOOK._replace(tested="all"))


@pytest.mark.parametrize("tested", ["test", "val"])
@pytest.mark.parametrize(
    "change",
    [{}, {"field": 40.0}, {"size": (28, 42), "shift": 0.3}, {"size": (8, 8)}],
)
def test_parts_share_no_pixel(tested, change):
    """Noise in all pixels of one part's pictures, nothing of it in the other's."""
    rng = np.random.default_rng(0)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(3, 397), (40, 90)))
    dense = Nuclei(
        image=rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8),
        label=np.arange(len(x)),
        centre=np.stack([x, y], axis=-1).astype(float),
        area=rng.permutation(len(x)),
    )
    look = LOOK._replace(tested=tested, **change)
    *parts, _ = size_pictures(dense, look=look)
    step = look.field / min(look.size)
    down, across = (step * side * (0.5 + look.shift) for side in look.size)
    assert not groups(parts[0]) & groups(parts[1])
    for n, one in enumerate(parts):
        noisy = dense.image.copy()
        for label in {int(name.split()[1]) for name in groups(one)}:
            x, y = dense.centre[label]
            top, left = (max(int(low), 0) for low in (y - down, x - across))
            box = np.s_[top : int(np.ceil(y + down)), left : int(np.ceil(x + across))]
            noisy[box] = 255 - dense.image[box]
        *again, _ = size_pictures(dense._replace(image=noisy), look=look)
        kept, changed = ((parts[m], again[m]) for m in (1 - n, n))
        for before, after in zip(*(shown(p, 2) for p in kept), strict=True):
            assert np.array_equal(before.image, after.image)
        for before, after in zip(*map(shown, changed), strict=True):
            assert not np.array_equal(before.image, after.image)


def test_validation_pictures_share_nothing_with_the_test_either():
    """Fields so large that only those far apart along the strips are."""
    centre = np.array([[10, 10], [350, 10], [350, 980], [20, 12], [200, 500]], float)
    image = np.zeros((1100, 400), np.uint8)
    few = Nuclei(image, np.arange(5), centre, np.arange(5))
    look = LOOK._replace(field=310.0, tested="val")
    assert split_nuclei(few, look).tolist() == [-1, -1, 1, -1, 0]


def test_grades_are_quantiles_of_the_training_part(nuclei):
    train, test, cuts = size_pictures(nuclei, look=LOOK._replace(test_draws=3))
    parts = split_nuclei(nuclei, LOOK)
    areas = np.sort(nuclei.area[parts == 0])
    for share, cut in zip((0.25, 0.5, 0.75), cuts, strict=True):
        assert np.mean(areas < cut) <= share <= np.mean(areas <= cut)
    for pictures in (train, test):
        for n, picture in enumerate(shown(pictures)):
            area = nuclei.area[nuclei.label == int(picture.group.split()[1])][0]
            assert pictures.labels[n, 0] == sum(area >= cut for cut in cuts)
    assert class_counts(train, len(SIZES)).all()
    assert test.count == 3 * np.sum(parts == 1)


def test_the_test_part_has_no_say_in_the_thresholds(nuclei):
    image, labels, _ = make_image(tall=4)
    other = find_nuclei(image, labels)
    assert not np.array_equal(other.area, nuclei.area)
    assert size_pictures(other, look=LOOK)[2] == size_pictures(nuclei, look=LOOK)[2]


def test_crops_are_centred_moved_and_never_scaled(nuclei):
    look = LOOK._replace(size=(20, 20), shift=0.0, scale=(0.5, 2.0))
    train, *_ = size_pictures(nuclei, look=look)
    for n, picture in enumerate(shown(train)):
        row = np.flatnonzero(nuclei.label == int(picture.origin.split()[1]))[0]
        x, y = nuclei.centre[row].astype(int)
        expected = nuclei.image[max(y - 10, 0) : y + 10, max(x - 10, 0) : x + 10]
        assert np.array_equal(picture.image[..., 1], expected), n
    moved, *_ = size_pictures(nuclei, look=look._replace(shift=0.2))
    images = [moved.picture(0, np.random.default_rng(s)).image for s in range(6)]
    assert len({image.tobytes() for image in images}) == 6
    bright = [(image[..., 0] > 110).sum() for image in images]
    area = nuclei.area[nuclei.label == int(shown(moved)[0].origin.split()[1])][0]
    assert np.abs(np.array(bright) - area).max() <= 0.5 * area  # half a pixel's edges


def test_mirroring_flips_training_pictures_only(nuclei):
    plain, flipped = (
        size_pictures(nuclei, look=LOOK._replace(mirror=mirror))
        for mirror in (False, True)
    )
    same = []
    for seed in range(20):
        one, two = (
            p[0].picture(3, np.random.default_rng(seed)).image for p in (plain, flipped)
        )
        assert np.array_equal(one, two) or np.array_equal(one[:, ::-1], two)
        same.append(np.array_equal(one, two))
        tests = [
            p[1].picture(3, np.random.default_rng(seed)).image for p in (plain, flipped)
        ]
        assert np.array_equal(*tests)
    assert 0 < sum(same) < 20


def test_what_is_refused(nuclei):
    with pytest.raises(
        ValueError, match=r"expected labels of .*\(4, 4\), found \(4, 5"
    ):
        find_nuclei(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.int32))
    with pytest.raises(ValueError, match="none of the labels lies wholly inside"):
        find_nuclei(np.zeros((4, 4), np.uint8), np.ones((4, 4), np.int32))
    with pytest.raises(ValueError, match="nuclei, train: none of .* make it smaller"):
        size_pictures(nuclei, look=LOOK._replace(field=400.0))


def test_files_are_read(tmp_path):
    image, labels, known = make_image()
    Image.fromarray(image.astype(np.uint16)).save(tmp_path / "image.tif")
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "labels.tif")
    found = read_nuclei(tmp_path / "image.tif", tmp_path / "labels.tif")
    assert found.label.tolist() == list(known)
    # 5 counts are black, 145 are white, 20 are 15 / 140 of the way
    assert set(np.unique(found.image)) == {27, 255} and found.image.dtype == np.uint8


def test_the_image_of_the_pack():
    try:
        found = load_nuclei()
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")
    assert found.image.shape == (512, 512) and len(found.label) <= 125
    assert 25 <= np.median(np.sqrt(found.area * 4 / np.pi)) + 3 <= 30  # a box is wider
    inside = [found.image[int(y), int(x)] for x, y in found.centre]
    assert np.mean(np.array(inside) > np.median(found.image) + 15) > 0.95
    train, test, cuts = size_pictures(found, look=LOOK._replace(field=48.0))
    counts = [class_counts(part, len(SIZES)) for part in (train, test)]
    assert np.ptp(counts[0]) <= 2 and counts[1].all()
    assert cuts == sorted(cuts)

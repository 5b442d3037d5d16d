"""Built-in tasks: the drawn ones always, those on packs where they can be had."""

import numpy as np
import pytest

from medjax.data.classes.built_in import TASKS, built_in_task
from medjax.data.classes.pictures import PictureLook, class_counts

LOOK = PictureLook((56, 56), 80.0, 1.4, 0.4, 0.08, (0.85, 1.2))


def groups(pictures):
    return {
        pictures.picture(n, np.random.default_rng(0)).group
        for n in range(0, pictures.count, 7)
    }


@pytest.mark.parametrize("name", ["shapes", "shape_size"])
def test_drawn_tasks(name):
    parts = built_in_task(name, LOOK)
    counts = class_counts(parts.train, len(parts.task.classes))
    assert (counts == counts[0]).all() and parts.test.count == 80
    one, two = (p.picture(3, np.random.default_rng(0)) for p in parts[1:3])
    assert one.image.shape == (56, 56, 3) and not np.array_equal(one.image, two.image)


def test_drawn_validation_pictures_are_others():
    final, tuned = (
        built_in_task("shapes", LOOK._replace(tested=tested)).test
        for tested in ("test", "val")
    )
    one, two = (p.picture(3, np.random.default_rng(0)) for p in (final, tuned))
    assert not np.array_equal(one.image, two.image)


@pytest.mark.parametrize("name", [n for n in TASKS if not n.startswith("shape")])
def test_tasks_on_packs(name):
    look = LOOK if TASKS[name].ordinal is False else LOOK._replace(test_draws=2)
    try:
        parts = built_in_task(name, look)
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")
    assert parts.task is TASKS[name] and parts.identity["packs"]
    for pictures in (parts.train, parts.test):
        assert pictures.labels.shape == (pictures.count, len(parts.task.questions))
        for m, question in enumerate(parts.task.questions):
            counts = class_counts(pictures, len(parts.task.classes), m)
            assert counts[list(question.options)].all(), (name, counts)
            assert counts.sum() == counts[list(question.options)].sum()
    assert not groups(parts.train) & groups(parts.test)
    picture = parts.test.picture(0, np.random.default_rng(0))
    assert picture.image.shape == (56, 56, 3) and picture.image.std() > 5


def test_grades_have_thresholds_in_the_identity():
    try:
        parts = built_in_task("mr_ventricle", LOOK)
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")
    thresholds = parts.identity["thresholds"]
    assert len(thresholds) == 4 and thresholds == sorted(thresholds)
    counts = class_counts(parts.train, 5)[1:]
    assert counts.max() - counts.min() <= 2


def test_what_is_refused():
    with pytest.raises(ValueError, match="task 'organs': expected one of ct_organ"):
        built_in_task("organs", LOOK)
    with pytest.raises(ValueError, match="left organ of ct_organ as a right one"):
        built_in_task("ct_organ", LOOK._replace(mirror=True))

import numpy as np

from medjax.data.boxes.views import loosen_box


def test_loosened_box_is_cut_at_the_image():
    rng = np.random.default_rng(0)
    box = np.array([0.0, 0, 10, 70])
    for _ in range(20):
        loose = loosen_box(box, (70, 60), rng, factors=(1.5, 3.0))
        assert loose.min() >= 0 and loose[2] <= 60 and loose[3] <= 70
        assert loose[3] - loose[1] == 70

import numpy as np
import pytest

from medjax.data.qmri.relaxation import T1, T2, TISSUES
from medjax.data.qmri.subjects import PARTS, draw_subject, subject_numbers
from tests.data.qmri.toy_head import TEMPLATE


def subject(number=0, seed=1, lesion_share=0.5, time_spread=0.0, template=TEMPLATE):
    return draw_subject(
        template,
        seed=seed,
        number=number,
        lesion_share=lesion_share,
        time_spread=time_spread,
    )


def test_same_key_same_subject():
    for a, b in zip(subject(), subject(), strict=True):
        np.testing.assert_array_equal(a, b)
    for other in (subject(1), subject(seed=2)):
        assert not np.array_equal(subject().matrix, other.matrix)


def test_parts_never_share_a_subject():
    numbers = [set(subject_numbers(part, 1_000_000)) for part in PARTS]
    assert len(set.union(*numbers)) == sum(len(n) for n in numbers)
    assert list(subject_numbers("train", 3)) == [0, 1, 2]
    # More subjects of a part leave the first ones who they were.
    assert set(subject_numbers("test", 5)) < set(subject_numbers("test", 50))


@pytest.mark.parametrize(
    ("part", "count", "message"),
    [
        ("dev", 3, "'dev'.*validation"),
        ("test", 0, "0 subjects"),
        ("test", 2_000_000, "1 to 1000000"),
    ],
)
def test_refuses_other_parts(part, count, message):
    with pytest.raises(ValueError, match=message):
        subject_numbers(part, count)


def test_lesions_for_their_share_of_subjects():
    drawn = [subject(n) for n in range(300)]
    counts = np.array([len(s.lesions) for s in drawn])
    assert 0.4 < (counts > 0).mean() < 0.6
    assert counts[counts > 0].min() == 4 and counts.max() == 24
    assert all(len(subject(n, lesion_share=0.0).lesions) == 0 for n in range(20))
    assert all(len(subject(n, lesion_share=1.0).lesions) > 0 for n in range(20))
    with pytest.raises(ValueError, match="lesion_share=1.5"):
        subject(lesion_share=1.5)
    bare = TEMPLATE._replace(sites=TEMPLATE.sites[:0])
    assert len(subject(lesion_share=0.0, template=bare).lesions) == 0
    with pytest.raises(ValueError, match="no place for lesions"):
        subject(template=bare)


def test_lesions_are_ellipsoids_of_a_few_mm_at_their_sites():
    sites = {tuple(site) for site in TEMPLATE.sites.tolist()}
    for n in range(20):
        one = subject(n, lesion_share=1.0)
        assert {tuple(p) for p in one.lesions.tolist()} <= sites
        for shape in one.shapes:
            square = np.linalg.inv(shape.T @ shape)  # eigenvalues: radii squared
            radii = np.sqrt(np.linalg.eigvalsh(square))
            assert 0.8 < radii[0] and radii[-1] < 14
            # Its axes are orthogonal: no shear was meant.
            gram = shape @ shape.T
            np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)


def test_health_changes_nothing_else():
    ill, well = subject(lesion_share=1.0), subject(lesion_share=0.0)
    for name in ("matrix", "shift", "borders", "t1", "t2", "pd"):
        np.testing.assert_array_equal(getattr(ill, name), getattr(well, name))


def test_relaxation_times_vary_by_some_percent():
    t1 = np.stack([subject(n).t1 for n in range(400)])
    assert t1.shape == (400, len(TISSUES))
    np.testing.assert_allclose(t1.mean(axis=0), T1, rtol=0.01)
    spread = t1.std(axis=0) / T1
    assert (spread > 0.034).all() and (spread < 0.046).all()


def test_times_may_vary_together():
    """A common factor a subject, the tissues' own on top of it."""
    times = np.log([subject(n, time_spread=0.2).t2 / T2 for n in range(400)])
    assert 0.18 < times.mean(axis=1).std() < 0.22
    own = times - times.mean(axis=1, keepdims=True)
    assert 0.03 < own.std() < 0.04  # 0.04 sqrt(3 / 4)
    with pytest.raises(ValueError, match="time_spread=2"):
        subject(time_spread=2)


def test_poses_stay_small():
    for n in range(50):
        one = subject(n)
        turn, stretch, _ = np.linalg.svd(one.matrix)
        assert (stretch > 0.94).all() and (stretch < 1.07).all()
        assert np.linalg.det(one.matrix) > 0  # nobody is mirrored
        assert np.abs(one.shift).max() <= 5 and turn.shape == (3, 3)

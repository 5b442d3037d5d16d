import numpy as np
import pytest

from medjax.data.qmri.batches import draw_slice
from medjax.data.qmri.invivo import invivo_batch
from medjax.mri.sense import sense_adjoint
from tests.data.qmri.toy_head import ACQUISITION, POPULATION


@pytest.fixture(scope="module")
def arrays():
    """A file's content, made of a simulated slice."""
    row = draw_slice(
        POPULATION, ACQUISITION, number=0, position=1, draw=(0,), acceleration=4.0,
        sample_id=0,
    ).row  # fmt: skip
    return {
        "image": row.target,
        "sens": row.sens,
        "t2": np.full(row.roi.shape, 0.1),
        "pd": row.target[0].astype(np.float64),
        "roi": row.roi,
        "seed": np.int64(7),
        "te": np.array(ACQUISITION.protocol.times),
    }


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def test_reads_a_slice(tmp_path, arrays):
    path = save(tmp_path / "slice.npz", {**arrays, "note": np.array("more")})
    batch, reference = invivo_batch(path, acceleration=4.0)
    assert batch.kspace.shape == (1, 4, 3, 32, 32)
    assert batch.kspace.dtype == np.complex64 and batch.mask.shape == (1, 4, 1, 32)
    np.testing.assert_array_equal(batch.mask.sum(axis=-1), 8)
    np.testing.assert_array_equal(batch.target[0], arrays["image"])
    np.testing.assert_array_equal(batch.roi[0], arrays["roi"])
    assert batch.valid.tolist() == [True] and batch.sample_id.tolist() == [0]
    np.testing.assert_array_equal(reference.t2, arrays["t2"])
    assert reference.times == ACQUISITION.protocol.times
    full, _ = invivo_batch(path, acceleration=1.0)
    images = np.asarray(sense_adjoint(full.kspace, full.sens, full.mask))
    np.testing.assert_allclose(images, full.target, atol=3e-6)  # float32


def test_scale_is_taken_out_of_images_and_reference(tmp_path, arrays):
    path = tmp_path / "slice.npz"
    save(path, {**arrays, "image": 8 * arrays["image"], "pd": 8 * arrays["pd"]})
    batch, reference = invivo_batch(path, acceleration=4.0)
    np.testing.assert_allclose(batch.target[0], arrays["image"], rtol=1e-6)
    np.testing.assert_allclose(reference.pd, arrays["pd"], rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("image", lambda a: a[0], r"image \[E, H, W\]"),
        ("image", lambda a: 0 * a, "0 everywhere"),
        ("image", lambda a: a * np.exp(0.5j), "has a phase"),
        ("image", lambda a: np.where(a > 0.5, np.nan, a), "not finite"),
        ("sens", lambda a: a[:, :16], "found"),
        ("sens", lambda a: 2 * a, "divide by the root sum of squares"),
        ("sens", lambda a: 0 * a, "divide by the root sum of squares"),
        ("t2", lambda a: a[:5], "expected t2 of shape"),
        ("te", lambda a: a[:2], "expected te of shape"),
        ("te", lambda a: 1000 * a, "divide by 1000"),
        ("seed", lambda a: np.array([a]), "expected seed"),
        ("roi", None, r"\['roi'\] missing"),
        ("t2", lambda a: a.astype(object), "slice.npz: expected an npz"),
    ],
)
def test_refuses_other_files(tmp_path, arrays, key, change, message):
    content = dict(arrays)
    value = content.pop(key)
    if change is not None:
        content[key] = change(value)
    with pytest.raises(ValueError, match=message):
        invivo_batch(save(tmp_path / "slice.npz", content), acceleration=4.0)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut"])
def test_refuses_broken_files(tmp_path, content):
    path = tmp_path / "slice.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="slice.npz: expected an npz"):
        invivo_batch(path, acceleration=4.0)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="one.npy: expected an npz.*one array"):
        invivo_batch(tmp_path / "one.npy", acceleration=4.0)
    with pytest.raises(FileNotFoundError):
        invivo_batch(tmp_path / "none.npz", acceleration=4.0)


def test_the_real_slice_has_the_authors_masks(shared):
    """26 of 160 lines each, 89 together; the zero-filled error measured by others."""
    path = shared / "data" / "invivo_t2_slice.npz"
    if not path.exists():
        pytest.skip(f"no {path}")
    batch, reference = invivo_batch(path, acceleration=6.0)
    mask = batch.mask[0, :, 0]
    np.testing.assert_array_equal(mask.sum(axis=-1), 26)
    assert mask.any(axis=0).sum() == 89
    image = np.asarray(sense_adjoint(batch.kspace, batch.sens, batch.mask))[0].real
    roi = batch.roi[0]
    error = ((image - batch.target[0])[:, roi] ** 2).sum()
    nrmse = np.sqrt(error / (batch.target[0][:, roi] ** 2).sum())
    assert nrmse == pytest.approx(0.2105, abs=5e-5)
    assert reference.t2.shape == (160, 160) and 0.08 < np.median(reference.t2[roi])

"""Packed parts are one gzip member that any reader takes."""

import gzip
import io
import zlib

import numpy as np
import pytest

from medjax.data.scans.packing import PackedFile


def pack(*arrays):
    stream = io.BytesIO()
    file = PackedFile(stream)
    for array in arrays:
        file.write(array)
    file.close()
    return stream.getvalue()


def noise(*size):
    return np.random.default_rng(0).normal(1, 0.1, size).astype(np.float32)


@pytest.mark.parametrize(
    "array",
    [
        noise(300, 200),  # more than a part
        np.full((300, 200), np.nan, np.float32),
        np.where(np.arange(300)[:, None] < 200, noise(300, 200), 0).astype(np.float32),
        np.arange(256, dtype=np.uint8).reshape(16, 16),
        np.zeros((1, 1), np.float32),
        np.zeros((0, 4), np.float32),
    ],
)
def test_bytes_come_back_from_one_member(array):
    packed = pack(array, array)
    whole = array.tobytes(order="F") * 2
    assert gzip.decompress(packed) == whole
    reader = zlib.decompressobj(31)
    assert reader.decompress(packed) == whole
    assert reader.eof and not reader.unused_data
    assert pack(array, array) == packed


def test_no_larger_than_gzip_s_own():
    for array in (noise(256, 256), np.full((256, 256), np.nan, np.float32)):
        own = gzip.compress(array.tobytes(), 1)
        # a part's end and its table of codes: about 100 bytes of 64 kB
        assert len(pack(array)) < 1.01 * len(own) + 300

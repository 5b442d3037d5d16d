"""Texts of several processes; one process here, the others imitated."""

import numpy as np
import pytest

from medjax.runtime import processes


def test_one_process_hears_itself():
    assert processes.gather_texts("größer") == ["größer"]


def test_texts_of_different_lengths_come_back_whole(monkeypatch):
    texts = ["a", "größer", ""]
    largest = max(len(text.encode()) for text in texts)

    def allgather(value):
        """What each process would have sent: its size, then its padded bytes."""
        data = [np.frombuffer(text.encode(), np.uint8) for text in texts]
        if value.ndim == 0:
            return np.array([len(one) for one in data], np.int32)
        assert value.shape == (largest,)
        return np.stack([np.pad(one, (0, largest - len(one))) for one in data])

    monkeypatch.setattr(processes.jax, "process_count", lambda: 3)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", allgather)
    assert processes.gather_texts(texts[1]) == texts


def test_a_batch_is_shared_equally_or_refused(monkeypatch):
    monkeypatch.setattr(processes.jax, "process_count", lambda: 3)
    assert processes.rows_per_process(6) == 2
    with pytest.raises(ValueError, match="batch 4 is not divisible by 3 processes"):
        processes.rows_per_process(4)

"""Texts of several processes; one process here, the others imitated."""

import numpy as np
import pytest

from medjax.runtime import processes
from medjax.runtime.errors import ProcessError
from medjax.runtime.launch import Launch


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


def test_what_the_first_process_makes_or_raises_is_on_all(monkeypatch):
    sent = []

    def first(text):
        """Process 0 says what it has; the other hears it."""
        sent.append(text)
        return [sent[0], ""]

    def fail():
        raise ValueError("a reward is missing")

    monkeypatch.setattr(processes, "gather_texts", first)
    for make, expected in ((lambda: "größer", "größer"), (fail, None)):
        sent.clear()
        for index in (0, 1):
            monkeypatch.setattr(processes.jax, "process_index", lambda n=index: n)
            if expected:
                assert processes.from_first(make) == expected
                continue
            named = "" if index == 0 else "process 0: ValueError: "
            with pytest.raises(ValueError, match=f"^{named}a reward is missing"):
                processes.from_first(make)


def test_a_process_that_finds_no_others_says_how_to_be_alone(monkeypatch):
    def fail(*_, **options):
        assert options["cluster_detection_method"] == "deactivate"
        raise RuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setattr(processes.jax.distributed, "initialize", fail)
    launch = Launch("flags", "node1:1", 2, 1)
    with pytest.raises(ProcessError, match=r"process 1 of 2 .* --num_processes=1"):
        processes.join_processes(launch)


def test_a_batch_is_shared_equally_or_refused(monkeypatch):
    monkeypatch.setattr(processes.jax, "process_count", lambda: 3)
    assert processes.rows_per_process(6) == 2
    with pytest.raises(ValueError, match="batch 4 is not divisible by 3 processes"):
        processes.rows_per_process(4)

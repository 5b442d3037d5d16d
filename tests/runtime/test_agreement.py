"""What processes must have alike; the others are imitated by what they would say."""

import json

import pytest

from medjax.runtime import agreement
from medjax.runtime.errors import ProcessError


@pytest.fixture
def two(monkeypatch):
    """Two processes: a function that says what process 1 would answer, by call."""
    answers = []

    def gather(text):
        answer = answers.pop(0)
        return [text, text if answer is None else answer]

    monkeypatch.setattr(agreement.jax, "process_count", lambda: 2)
    monkeypatch.setattr(agreement, "gather_texts", gather)
    monkeypatch.setattr(agreement, "from_first", lambda make: make())
    return answers


def test_one_process_agrees_with_itself_and_writes_nothing(tmp_path):
    agreement.require_agreement(tmp_path / "run", __file__, config={})
    assert not (tmp_path / "run").exists()


def test_what_differs_is_named_with_its_host(two):
    document = {"train": {"lr": 0.1}, "seed": 0}
    two.append(None)
    agreement.require_alike("config", document)
    two.append(json.dumps(["node7", {"train": {"lr": 0.2}, "seed": 0}]))
    with pytest.raises(ProcessError, match=r"differ in config") as caught:
        agreement.require_alike("config", document)
    assert "train.lr: process 1 on node7 has 0.2, process 0 on" in str(caught.value)
    assert "seed" not in str(caught.value)


def test_a_long_list_of_differences_is_cut(two):
    two.append(json.dumps(["node7", {f"file{n}": 1 for n in range(40)}]))
    with pytest.raises(ProcessError, match=r"\.\.\. and 28 more"):
        agreement.require_alike("files", {f"file{n}": 0 for n in range(40)})


def test_a_workdir_that_one_cannot_read_is_refused(two, tmp_path):
    two.append("")
    agreement.require_one_workdir(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []  # what was written is gone
    two.append("node7")
    with pytest.raises(ProcessError, match=r"process 1 on node7: .* processes share"):
        agreement.require_one_workdir(tmp_path / "run")


def test_another_folder_than_that_of_the_first_is_noticed(two, tmp_path, monkeypatch):
    """This is process 1, whose own folder of that name is empty or stale."""
    said = []
    monkeypatch.setattr(agreement, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(agreement, "from_first", lambda make: "a token of another")
    monkeypatch.setattr(agreement.jax, "process_index", lambda: 1)
    monkeypatch.setattr(agreement, "gather_texts", lambda x: said.append(x) or ["", x])
    with pytest.raises(ProcessError, match="process 1 on"):
        agreement.require_one_workdir(tmp_path)
    assert said != [""]


def test_code_is_compared(two, tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    program = tmp_path / "run.py"
    program.write_text("x = 1\n")
    said = []

    def note(what, document):
        said.append(document["code"])

    monkeypatch.setattr(agreement, "require_alike", note)
    monkeypatch.setattr(agreement, "require_one_workdir", lambda _: None)
    for path in (program, program, tmp_path / "configs" / "a.py"):
        path.write_text("x = 2\n")
        agreement.require_agreement(tmp_path, program)
    assert said[0] == said[1] != said[2]

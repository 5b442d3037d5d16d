"""Joining batches of an evaluation, and reading an earlier one back."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from medjax.data.prompting.tokenizer import train_tokenizer
from medjax.evals.tables import Table
from medjax.recipes.policy.scoring import collect, earlier_rows, write_evaluation

TABLE = Table("all", ("", "n"), (("grpo", "2"),))


class Predictions(NamedTuple):
    label: np.ndarray
    tokens: np.ndarray
    mask: np.ndarray


def test_rows_that_fill_a_batch_are_left_out():
    tokenizer = train_tokenizer(["disc"], 300)
    ids = tokenizer.encode("disc", add_special_tokens=False)
    tokens = np.tile(np.array(ids, np.int32), (2, 1))
    mask = np.ones(tokens.shape, bool)
    mask[1, 1:] = False

    def batch(start, valid):
        found = Predictions(np.array([start, start + 1]), tokens, mask)
        values = {"right": np.array([1.0, 0.0]), "valid": np.array(valid)}
        values["finite"] = np.array([True, valid[1]])  # a filler is not looked at
        names = [name for name, ok in zip("ab", valid, strict=True) if ok]
        return found, values, names

    found = collect([batch(0, [True, True]), batch(2, [True, False])], tokenizer)
    assert found.records == ["a", "b", "a"]
    assert found.predictions["label"].tolist() == [0, 1, 2]
    assert found.values["right"].tolist() == [1.0, 0.0, 1.0]
    assert found.texts == ["disc", "d", "disc"]


class Asked(NamedTuple):
    slice_id: str


def test_answers_of_a_policy_that_is_not_finite_are_no_result():
    """NaN draws the vocabulary's last token, and would score 0 in silence."""
    zeros = np.zeros((2, 1), np.int32)
    values = {"valid": np.ones(2, bool), "finite": np.array([True, False])}
    batch = (Predictions(zeros[:, 0], zeros, zeros > 0), values)
    with pytest.raises(ValueError, match="1 of 2 answers .* first about b; .*float32"):
        collect([(*batch, [Asked("a"), Asked("b")])], None)


def test_an_evaluation_is_read_back(tmp_path, capsys):
    rows = [{"sample_id": 1, "text": "größer"}, {"sample_id": 2, "text": ""}]
    write_evaluation(tmp_path / "eval" / "9", rows[:1], [TABLE])
    write_evaluation(tmp_path / "eval" / "10", rows, [TABLE, TABLE])
    assert earlier_rows(tmp_path / "eval") == tuple(rows)  # by step, not by name
    assert earlier_rows(tmp_path / "eval" / "9") == tuple(rows[:1])
    assert earlier_rows(tmp_path / "nothing") == ()
    assert (tmp_path / "eval" / "10" / "tables.txt").read_text().count("grpo") == 2
    cells = json.loads((tmp_path / "eval" / "10" / "tables.json").read_text())
    assert [Table(x["title"], x["header"], x["rows"]) for x in cells] == [
        Table(TABLE.title, list(TABLE.header), [list(row) for row in TABLE.rows])
    ] * 2
    assert "grpo" in capsys.readouterr().out


def test_a_damaged_file_is_an_error(tmp_path):
    (tmp_path / "answers.jsonl").write_text("not JSON")
    with pytest.raises(ValueError):
        earlier_rows(tmp_path)

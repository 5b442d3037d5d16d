"""The page of a stage while it trains says what its rows and its evaluation say."""

import json
from functools import partial

from medjax.recipes.policy.live import live_page
from medjax.recipes.policy.training_story import supervised_story
from medjax.runtime.live import running_line
from tests.runtime.test_loop import rows, run

STATE = running_line(2, 9, "10:00")


def test_words_and_tables_so_far(tmp_path):
    lines = [{"step": n, "nonfinite": 0, "loss": 3.0 / n} for n in (1, 2)]
    text = "".join(json.dumps(row) + "\n" for row in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    table = ("about training", ("", "n"), (("a", "1"),))
    page = live_page(
        "sft",
        words=partial(supervised_story, 9),
        tell=(lambda _: None, lambda folder: table),
    )
    page.write(tmp_path, state=STATE, reload=30, figures=False)
    told = (tmp_path / "report.html").read_text()
    assert "The loss fell from 3 to 1.5" in told and "about training" in told
    assert "2 of the 9 steps" in told and "step 2 of 9, written at 10:00" in told
    assert "of the evaluation at" not in told
    folder = tmp_path / "eval" / "1"
    folder.mkdir(parents=True)
    cells = [{"title": "scores of it", "header": ["", "n"], "rows": [["b", "2"]]}]
    (folder / "tables.json").write_text(json.dumps(cells))
    page.write(tmp_path, state=STATE, reload=30, figures=True)
    told = (tmp_path / "report.html").read_text()
    assert "of the evaluation at step 1." in told and 'alt="curves"' in told
    assert told.index("scores of it") < told.index("about training")
    page.mark(tmp_path, state="", reload=0)
    assert "Still running" not in (tmp_path / "report.html").read_text()


def test_a_training_writes_it_and_leaves_its_results_alone(tmp_path):
    page = live_page("toy", words=partial(supervised_story, 2))
    run(tmp_path / "plain", steps=2)
    run(tmp_path / "shown", steps=2, live=page._replace(every=0.0, share=1e9))
    assert rows(tmp_path / "plain") == rows(tmp_path / "shown")
    told = (tmp_path / "shown" / "report.html").read_text()
    assert "The loss " in told and "refresh" not in told and "Still" not in told
    assert not (tmp_path / "plain" / "report.html").exists()

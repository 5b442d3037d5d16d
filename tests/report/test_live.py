"""The page of a running training is made of the files in its folder."""

import json

import pytest

from medjax.report import live, page
from tests.report.test_page import PNG, TABLE, Tags, workdir  # noqa: F401

STATE = "Still running: step 8 of <300>."


def write(folder, *, state=STATE, reload=30, figures=True):
    live.write_live_report(folder, title="grpo", tables=[TABLE], story=["tau rose"],
                           doubts=["watchdog"], state=state, reload=reload,
                           figures=figures)  # fmt: skip
    return (folder / "report.html").read_text()


def test_a_running_page_reloads_itself_and_says_how_far_it_is(workdir):  # noqa: F811
    text = write(workdir)
    assert not Tags(text).open
    assert '<meta http-equiv="refresh" content="30">' in text
    order = ["<h1>grpo", "step 8 of &lt;300&gt;", "What happened", "watchdog",
             "tau rose", "all &lt;answers&gt;", "data:image/png", "Config"]  # fmt: skip
    places = [text.index(piece) for piece in order]
    assert places == sorted(places)
    assert sorted(p.stem for p in (workdir / "figures").iterdir()) == [
        "curves", "signal", "threshold"
    ]  # fmt: skip
    assert not list(workdir.glob("**/*.tmp"))


def test_words_alone_keep_the_figures_that_are_there(workdir):  # noqa: F811
    folder = workdir / "figures"
    assert "data:image" not in write(workdir, figures=False)
    folder.mkdir()
    for name in ("signal", "overlays", "threshold"):
        (folder / f"{name}.png").write_bytes(PNG)
    text = write(workdir, figures=False)
    places = [text.index(f'alt="{n}"') for n in ("overlays", "threshold", "signal")]
    assert places == sorted(places)  # as a finished page has them
    assert all(path.read_bytes() == PNG for path in folder.iterdir())


def test_a_page_changes_its_state_and_nothing_else(workdir):  # noqa: F811
    plain = page.write_report(workdir, title="grpo", tables=[TABLE]).read_text()
    live.mark_report(workdir, state=STATE, reload=30)
    running = (workdir / "report.html").read_text()
    assert "refresh" in running and running.count('class="state"') == 1
    live.mark_report(workdir, state="Stopped after step 8.", reload=0)
    stopped = (workdir / "report.html").read_text()
    assert "refresh" not in stopped and "Still running" not in stopped
    assert stopped.count("Stopped after step 8.") == 1 and not Tags(stopped).open
    live.mark_report(workdir, state="", reload=0)
    assert (workdir / "report.html").read_text() == plain


def test_without_a_page_nothing_is_marked(tmp_path):
    live.mark_report(tmp_path, state=STATE, reload=30)
    assert not list(tmp_path.iterdir())


def test_the_tables_are_those_of_the_last_evaluation(tmp_path):
    assert live.newest_tables(tmp_path) == ("", [])
    for step in ("9", "40", "100", "old"):
        folder = tmp_path / "eval" / step
        folder.mkdir(parents=True)
        cells = [{"title": step, "header": ["", "n"], "rows": [["a", "1"]]}]
        (folder / "tables.json").write_text(json.dumps(cells))
    step, tables = live.newest_tables(tmp_path)
    assert step == "100" and tables == [("100", ["", "n"], [["a", "1"]])]
    (tmp_path / "eval" / "100" / "tables.json").write_text('[{"title": 1}]')
    with pytest.raises(ValueError, match=r"100.tables\.json: expected a list of"):
        live.newest_tables(tmp_path)

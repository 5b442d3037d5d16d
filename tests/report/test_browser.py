"""Pages in a browser: no error, no request, and nothing wider than a phone."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from medjax.recipes.qmri.maps_page import Told, maps_page
from medjax.report.page import render_page, set_state
from medjax.runtime.live import running_line
from tests.browser import find_browser, open_browser, open_page
from tests.recipes.qmri.test_maps_page import SUMMARY

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
WORD = "a_name_without_a_place_to_break_" * 8


@pytest.fixture(scope="module")
def look():
    with open_browser(BROWSER) as look:
        yield look


def png(width=1400, height=200):
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width), 200, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def wide_table():
    head = ("", *(f"score {n}, ms" for n in range(11)))
    cells = ["0.1234 [0.1201, 0.1267]"] * 11
    rows = [("a method of many words and more", *cells), (WORD, *cells)]
    return "Scores\nand a second line: " + WORD, head, rows


def pages():
    run = render_page(
        f"fit, step 30 {WORD}",
        tables=[wide_table(), ("short", ("", "n"), [("a", "1")])],
        figures={"maps_median": png()},
        starts=[{"config": {"path": WORD, "list": list(range(40))}, "command": [WORD]}],
        note="A note.",
        story=["Least NRMSE by joint TV.", WORD],
    )
    told = Told(
        "scan.nii.gz: T2",
        found=("12 vials against their references", WORD),
        done=(f"/data/{WORD}/scan.nii.gz: 3 slices",),
        tables=(wide_table(),),
        source=f"/data/{WORD}/scan.nii.gz",
    )
    distrust = {"no reason found": 5, "far from the model": 3}
    maps = maps_page(told, ["the median is its bound", WORD], ["T2"], ["R"], SUMMARY,
                     distrust, {"figures/slice_003.png": png()})  # fmt: skip
    policy = render_page(
        "grpo, step 300",
        tables=[wide_table()],
        figures={name: png() for name in ("overlays", "threshold", "curves", WORD)},
        starts=[],
        note="",
        story=["tau rose once, at step 145, from 0.30 to 0.45", f"grpo beats {WORD}"],
        doubts=[f"watchdog: share of {WORD!r} was above 0.9", "Training stopped"],
    )
    line = running_line(40, 300, "2026-01-01 10:00:00 UTC")
    going = set_state(policy, line, reload=30)
    return {"run": run, "maps": maps, "policy": policy, "running policy": going}


@pytest.mark.parametrize("name", ["run", "maps", "policy", "running policy"])
def test_a_page_fits_a_phone_and_asks_nobody(look, tmp_path, name):
    path = tmp_path / "report.html"
    path.write_text(pages()[name])
    seen = look(path, width=390)
    assert (seen.view, seen.width) == (390, 390)
    assert not seen.outside and not seen.problems and not seen.requests
    wide = look(path, width=1200, dark=True)
    assert wide.width == wide.view == 1200 and not wide.problems
    assert not wide.outside  # eleven scores with their intervals
    # contrast: dark text on light ground, and the other way round
    for one, sign in ((seen, -1), (wide, 1)):
        text, ground = (
            sum(int(x) for x in colour[4:-1].split(",")) for colour in one.colours
        )
        assert sign * (text - ground) > 450


def test_scores_by_structure_beside_every_contender_fit_a_window(look, tmp_path):
    names = ("before training", "no image: before training", "no image: nearest slice")
    others = ("warm_start", *names, "no image: grpo", "no image: mean box", "probe")
    head = ("", "n", "A@0.5", "A@0.8", "mAP", "mIoU", "parsed")
    head = (*head, *(f"mIoU {name}" for name in others))
    rows = [("right superior temporal gyrus", *["0.123"] * (len(head) - 1))] * 2
    page = render_page(
        "grpo", tables=[("by structure", head, rows)], figures={}, starts=[], note=""
    )
    path = tmp_path / "report.html"
    path.write_text(page)
    assert not look(path, width=1100).outside


def test_a_running_page_reloads_itself_until_it_is_done(tmp_path):
    path, page = tmp_path / "report.html", pages()["policy"]
    path.write_text(set_state(page, "first look", reload=1))
    with open_page(path) as text:
        assert "first look" in text()
        path.write_text(set_state(page, "second look", reload=1))
        until = time.monotonic() + 60
        while "second look" not in text() and time.monotonic() < until:
            time.sleep(0.2)
        assert "second look" in text()
        path.write_text(page)  # done
        while "second look" in text() and time.monotonic() < until:
            time.sleep(0.2)
        assert "second look" not in text() and "tau rose once" in text()
        path.write_text(set_state(page, "third look", reload=1))
        time.sleep(3)
        assert "third look" not in text()  # nobody looks again


def test_what_is_wrong_with_a_page_is_seen(look, tmp_path):
    path = tmp_path / "wrong.html"
    path.write_text(
        '<meta name="viewport" content="width=device-width"><p style="width: 600px">'
        '<script>console.error("oh")</script><img src="file:///none.png">'
    )
    seen = look(path, width=390)
    assert seen.width > 390 and seen.outside[0][0] == "P"
    assert any("oh" in problem for problem in seen.problems)
    assert seen.requests == ["file:///none.png"]

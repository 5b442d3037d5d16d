"""Pages: links lead somewhere, how-tos are near, built ones need no other host."""

import html.parser
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.browser import find_browser, open_browser

REPO = pathlib.Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
PAGES = (REPO / "README.md", *sorted(DOCS.rglob("*.md")))
HOW_TO = ("your_boxes", "your_classes", "your_scan", "your_reward")
HOW_TO += ("base_model", "new_dataset", "pod")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
HOSTS = ("http://", "https://", "mailto:")


def prose(path):
    """A page without what stands in fences: code shows what is no link."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """What `#` may name: headings as GitHub and MyST both write them, no two alike."""
    names = []
    for title in re.findall(r"^#{1,6} +(.+)$", prose(path), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", title).lower()
        names.append(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return names


def broken(path, text):
    """Links of a page that lead nowhere."""
    wrong = []
    for target in LINK.findall(text) + PICTURE.findall(text):
        if target.startswith(HOSTS):
            continue
        name, _, anchor = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        if not place.exists():
            wrong.append(target)
        elif anchor and (place.suffix != ".md" or anchor not in anchors(place)):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_links_lead_to_files_and_headings(page):
    assert broken(page, prose(page)) == []


def test_links_to_nothing_are_found():
    text = "[a](start.md) [b](gone.md) [c](start.md#install) [d](start.md#gone)"
    text += " ![e](x.png)"
    assert broken(DOCS / "index.md", text) == ["gone.md", "start.md#gone", "x.png"]


def clicks(first):
    """By page: how many links in the text lead there, at least."""
    found, edge = {first: 0}, [first]
    while edge:
        page = edge.pop(0)
        for target in LINK.findall(prose(page)):
            place = (page.parent / target.partition("#")[0]).resolve()
            if place.suffix == ".md" and place.is_file() and place not in found:
                found[place] = found[page] + 1
                edge.append(place)
    return found


@pytest.mark.parametrize("first", ["README.md", "docs/index.md"])
def test_each_how_to_is_two_clicks_away_at_most(first):
    found = clicks(REPO / first)
    far = {name: found.get(DOCS / f"howto/{name}.md", 99) for name in HOW_TO}
    assert max(far.values()) <= 2, far


def test_every_page_is_reached_and_stands_in_one_list():
    """From the first page by links of texts, and in the side bar once."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    lists = re.findall(
        r"```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)```", index, flags=re.DOTALL
    )
    listed = [name for part in lists for name in part.split()]
    files = [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]
    pages = {str(p.relative_to(DOCS).with_suffix("")) for p in files} - {"index"}
    assert sorted(listed) == sorted(pages)
    reached = {p for p in clicks(DOCS / "index.md") if DOCS in p.parents}
    assert {p for p in PAGES if DOCS in p.parents} <= reached


class Sources(html.parser.HTMLParser):
    """What a page loads by itself: not where its links would lead."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            loads = name in ("src", "srcset", "poster", "data")
            if value and (loads or (tag, name) == ("link", "href")):
                self.found.append(value)


def outside(text):
    """Addresses of other hosts that HTML or CSS loads."""
    reader = Sources()
    reader.feed(text)
    loaded = reader.found + re.findall(r"url\(\s*['\"]?([^'\")]+)", text)
    loaded += re.findall(r"@import\s+['\"]([^'\"]+)", text)
    return [x for x in loaded if re.match(r"(https?:)?//", x)]


def test_what_a_page_loads_is_told_from_where_it_links():
    page = '<a href="https://a.org">x</a><script src="https://b.org/x.js"></script>'
    page += '<link href="//c.org/x.css"><style>a{background:url(http://d.org)}</style>'
    assert outside(page) == ["https://b.org/x.js", "//c.org/x.css", "http://d.org"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    for name in ("furo", "myst_nb", "sphinx", "ziamath"):
        pytest.importorskip(name)
    place = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "-q"]
    run = subprocess.run(
        [*command, "-d", place / "doctrees", DOCS, place / "html"],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return place / "html"


@pytest.mark.slow
def test_built_pages_load_nothing_from_other_hosts(built):
    files = [*built.rglob("*.html"), *(built / "_static").rglob("*.css")]
    assert len(files) > 30
    found = {p.name: outside(p.read_text(encoding="utf-8")) for p in files}
    assert {name: loaded for name, loaded in found.items() if loaded} == {}


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_built_pages_fit_a_phone(built, dark):
    """No scroll sideways, no error, no request to another host, text on its ground."""
    browser = find_browser()
    if browser is None:
        pytest.skip("no browser is installed")
    names = ("index", "start", "systems/medloc", "systems/puq", "howto/pod", "rl")
    with open_browser(browser) as look:
        for name in names:
            seen = look(built / f"{name}.html", width=390, dark=dark)
            assert seen.width <= seen.view, (name, seen.width, seen.outside[:3])
            assert seen.problems == [], name
            assert [x for x in seen.requests if not x.startswith("file:")] == []
            text, ground = (
                sum(map(int, re.findall(r"\d+", c)[:3])) for c in seen.colours
            )
            assert (text > ground) == dark, (name, seen.colours)

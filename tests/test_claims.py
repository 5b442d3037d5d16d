"""Tables of results, of the README and the docs, hold what the JSONs hold."""

import json
import pathlib
import re
from typing import NamedTuple

import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "claims.md"
# Pages of which every table of results is a claim; others may show claims too.
RESULTS_OF = ("README.md", "docs/speed.md", "docs/systems/*.md")
NUMBER = re.compile(r"[-+]?\d[\d.]*")


class Shown(NamedTuple):
    """A table as a page shows it."""

    claim: str  # "" where none is named
    header: list[str]
    rows: list[list[str]]
    page: str = ""


class Claim(NamedTuple):
    """A row of docs/claims.md."""

    name: str
    command: str
    json: str  # "" for none
    commit: str
    of: str


def cells(line):
    """The cells of a line of a Markdown table, or of one as a terminal shows it."""
    if line.startswith("|"):
        return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
    return [""] * line.startswith(" ") + re.split(r"\s{2,}", line.strip())


def tables(text):
    """All tables of a page, and the claims named above them."""
    found, lines = [], text.split("\n")
    for n, line in enumerate(lines):
        if re.fullmatch(r"\|( -+:? \|)+|-{20,}", line):
            header = cells(lines[n - 1])
            rows = []
            for row in lines[n + 1 :]:
                if not row.strip() or row.startswith("```"):
                    break
                rows.append(cells(row))
            named = re.search(r"<!-- claim: (\w+) -->", "\n".join(lines[n - 4 : n]))
            found.append(Shown(named.group(1) if named else "", header, rows))
    return found


def is_result(table):
    """Most cells behind the names begin with a number."""
    behind = [cell for row in table.rows for cell in row[1:] if cell]
    return sum(bool(NUMBER.match(cell)) for cell in behind) > len(behind) / 2


def claims():
    found = {}
    (table,) = tables(PAGE.read_text(encoding="utf-8"))
    for name, command, file, commit, of in table.rows:
        link = re.search(r"\((claims/\w+\.json)\)", file)
        found[name] = Claim(name, command, link.group(1) if link else "", commit, of)
    return found


def missing(shown, document):
    """Cells of a table that no table of the JSON has in that row and column."""
    best = None
    for held in document["tables"]:
        rows = {
            row[0]: dict(zip(held["header"], row, strict=True)) for row in held["rows"]
        }
        wrong = [
            f"{row[0]}, {column}: {cell}"
            for row in shown.rows
            for column, cell in zip(shown.header, row, strict=True)
            if rows.get(row[0], {}).get(column) != cell
        ]
        best = wrong if best is None or len(wrong) < len(best) else best
    return best if best is not None else ["no table"]


def shown_on(*patterns):
    """The tables of results of some pages, or those that name a claim."""
    return [
        table._replace(page=str(path.relative_to(REPO)))
        for pattern in patterns
        for path in sorted(REPO.glob(pattern))
        if path != PAGE
        for table in tables(path.read_text(encoding="utf-8"))
        if is_result(table) or table.claim
    ]


CLAIMS = claims()
RESULTS = shown_on(*RESULTS_OF)
NAMED = [t for t in shown_on("README.md", "docs/**/*.md") if t.claim]
HELD = [t for t in NAMED if t.claim in CLAIMS and CLAIMS[t.claim].json]
EACH = pytest.mark.parametrize("shown", HELD, ids=lambda t: f"{t.page}:{t.claim}")


def document(name):
    return json.loads((PAGE.parent / CLAIMS[name].json).read_text(encoding="utf-8"))


def test_every_table_of_results_is_a_claim():
    unnamed = [(table.page, table.header) for table in RESULTS if not table.claim]
    assert unnamed == []


def test_every_claim_is_shown_and_every_shown_one_is_known():
    assert {table.claim for table in NAMED} == set(CLAIMS)


@EACH
def test_pages_have_the_numbers_of_the_json(shown):
    assert missing(shown, document(shown.claim)) == []


@EACH
def test_a_changed_digit_is_found(shown):
    held = document(shown.claim)
    for n, row in enumerate(shown.rows):
        for m, cell in enumerate(row):
            for at in (i for i, letter in enumerate(cell) if m and letter.isdigit()):
                digit = str((int(cell[at]) + 1) % 10)
                rows = [list(x) for x in shown.rows]
                rows[n][m] = cell[:at] + digit + cell[at + 1 :]
                wrong = missing(shown._replace(rows=rows), held)
                assert wrong == [f"{row[0]}, {shown.header[m]}: {rows[n][m]}"]


@EACH
def test_a_changed_digit_of_the_page_is_found(shown):
    """The same through the page's text, for its first number."""
    text = (REPO / shown.page).read_text(encoding="utf-8")
    row, cell = shown.rows[0][0], shown.rows[0][1]
    lines = text.split("\n")
    header = next(n for n, line in enumerate(lines) if cells(line) == shown.header)
    block = len("\n".join(lines[:header]))
    at = text.index(cell, text.index(row, block))
    changed = text[:at] + f"{(int(cell[0]) + 1) % 10}" + text[at + 1 :]
    (other,) = [
        table
        for table in tables(changed)
        if (table.claim, table.header) == (shown.claim, shown.header)
    ]
    (wrong,) = missing(other, document(shown.claim))
    assert wrong.startswith(f"{row}, {shown.header[1]}: ")


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.name)
def test_a_claim_names_its_command_and_commit(claim):
    program = claim.command.split()[1]
    assert claim.command.startswith("python ") and (REPO / program).exists()
    if claim.json:
        held = document(claim.name)
        assert held["command"] == claim.command
        commits = [
            *held["commits"],
            *([held["evaluated"]] if "evaluated" in held else []),
        ]
        assert claim.commit.split(", ") == [commit[:7] for commit in commits]
        assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in commits)
        assert held["versions"]["jax"] and held["processor"]["name"]
        alone = claim.of.startswith("a single seed")
        assert alone == (len(held["seeds"]) == 1)
    else:
        assert claim.of  # what the numbers are of is said in words


def test_every_json_is_named():
    files = {f"claims/{path.name}" for path in PAGE.parent.glob("claims/*")}
    assert files == {claim.json for claim in CLAIMS.values() if claim.json}


def test_no_json_names_a_place_of_a_machine():
    for path in PAGE.parent.glob("claims/*.json"):
        assert not re.search(r"/(?:tmp|home|root|work|Users)/", path.read_text())

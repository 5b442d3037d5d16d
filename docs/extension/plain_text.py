"""Docstrings and signatures as they stand in the source, as reStructuredText.

Our docstrings are written for a terminal: formulas such as `|y - S_c x|^2`, columns
held by spaces, comments beside the fields of a record. None of it is markup.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
TABLE = re.compile(r"=+( +=+)+$")


class Field(NamedTuple):
    """One field of a record: `name: annotation = default` and its comment as markup."""

    declaration: str
    comment: str


def restructured(docstring: str) -> str:
    """reStructuredText that reads like the docstring; Google's sections are kept.

    A paragraph with an indented line or with three spaces in a row was laid out by
    hand and becomes a literal block. Tables and doctests are markup already.
    """
    blocks = re.split(r"\n{2,}", inspect.cleandoc(docstring))
    in_section, result = False, []
    for block in blocks:
        first, _, rest = block.partition("\n")
        in_section = bool(SECTION.match(first)) or in_section and first[0] == " "
        if first == "Returns:":
            # Not left to napoleon: it takes what stands before a colon for a type.
            result.append(f":returns:\n{_escaped(rest)}")
        elif TABLE.match(first.strip()) or first.startswith(">>>"):
            result.append(block)  # escapes would widen a column
        elif in_section or first.startswith("- "):
            result.append(_escaped(block))
        elif re.search(r"^ |\S {3,}\S", block, re.MULTILINE):
            result.append("::\n\n" + textwrap.indent(block, "    "))
        else:
            result.append(_escaped(block))
    return "\n\n".join(result)


def summary(thing: Any) -> str:  # noqa: ANN401
    """The first line of a docstring, which says what is returned."""
    return _escaped((inspect.getdoc(thing) or "").split("\n", 1)[0])


def signature(function: Any) -> tuple[str, str]:  # noqa: ANN401
    """Parameters and result of a function, the annotations as they were written."""
    node = _node(inspect.unwrap(function))
    node.args.args = [a for a in node.args.args if a.arg != "self"]
    result = ast.unparse(node.returns) if node.returns else ""
    return f"({ast.unparse(node.args)})", result


def record_fields(record: type) -> Iterator[Field]:
    """The fields of a NamedTuple or dataclass, comments from beside or above them."""
    source = textwrap.dedent(inspect.getsource(record))
    lines = source.splitlines()
    for node in _node(record).body:
        if not isinstance(node, ast.AnnAssign):
            continue
        beside = lines[node.end_lineno - 1][node.end_col_offset :].strip()
        above = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.strip().startswith("#"):
                break
            above.insert(0, line)
        comment = " ".join(line.strip(" #") for line in [*above, beside])
        yield Field(ast.unparse(node), _escaped(comment.strip()))


def _node(thing: Any) -> Any:  # noqa: ANN401
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def _escaped(text: str) -> str:
    """Markup is what stands in backticks, a link if it is a name, and *a word*."""
    parts = re.split(r"(`+[^`]+`+|(?<![\w*\[])\*\w+\*(?![\w*]))", text)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            part = re.sub(r"([\\*|]|_(?!\w))", r"\\\1", part)
            # Markup ends at what is no letter; an escaped blank is one, and unseen.
            part = re.sub(r"^(?=\w)", r"\\ ", part) if index else part
            more = index + 1 < len(parts)
            parts[index] = re.sub(r"(?<=\w)\Z", r"\\ ", part) if more else part
        elif part.startswith("`") and not re.fullmatch(r"`[\w.]+`", part):
            parts[index] = f"``{part.strip('`')}``"
    return "".join(parts)

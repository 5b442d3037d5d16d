"""A Sphinx extension: entries of the public names, formulas as MathML.

    ```{api} medjax.rl
    grpo_loss
    *_advantages
    ```

puts the entries of these names on the page; without names, of all that no page asks
for, so that a name added to `__all__` has an entry without anybody thinking of it. A
name whose entry belongs to another module is a link to it.
"""

import enum
import importlib
from dataclasses import is_dataclass
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from .names import home, matching, public_names, requests
from .plain_text import record_fields, restructured, signature, summary

logger = logging.getLogger(__name__)


class Api(SphinxDirective):
    """The directive `api`."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """One autodoc entry or one link a name."""
        module = self.arguments[0]
        names = public_names(module)
        asked = self.content or requests(self.env.srcdir).get(module, [])
        try:
            chosen = matching(asked, names)
        except ValueError as error:
            raise self.error(f"{module}: {error}") from error
        names = chosen if self.content else [n for n in names if n not in chosen]
        links, entries = [], []
        for name in names:
            value = getattr(importlib.import_module(module), name)
            where = home(name, module)
            if where == module:
                entries += _entry(f"{module}.{name}", value)
            else:
                role = f":py:obj:`{name} <{where}.{name}>`"
                links += [f"* {role}: {summary(value)}"]
        text = "\n".join(["```{eval-rst}", *links, "", *entries, "```"])
        return self.parse_text_to_nodes(text)


def _entry(path: str, value: object) -> list[str]:
    if isinstance(value, type):
        kind, options = "class", ["   :members:"]
        if issubclass(value, enum.Enum):
            options.append("   :undoc-members:")
        if getattr(value, "_is_protocol", False):
            options += ["   :special-members: __call__", "   :undoc-members:"]
    elif callable(value):
        kind, options = "function", []
    else:
        kind, options = "data", ["   :no-value:"]
    return [f".. auto{kind}:: {path}", *options, ""]


def _signature(_app, what, _name, value, _options, given, _result):
    if what == "class" and given:
        return "", ""  # the fields are listed below, each with its meaning
    return signature(value) if what in ("function", "method") else None


def _docstring(_app, what, _name, value, _options, lines) -> None:
    lines[:] = restructured("\n".join(lines)).split("\n")
    record = hasattr(value, "_fields") or is_dataclass(value)
    if what == "class" and record and "Attributes:" not in lines:
        for field in record_fields(value):
            lines += ["", f"``{field.declaration}``", f"   {field.comment}"]


def _skipped(_app, _what, _name, value, skip, _options) -> bool | None:
    """Fields of a record, whose own docstrings say "Alias for field number"."""
    alias = type(value).__name__ == "_tuplegetter"
    return True if alias else skip


def _mathml(translator, node) -> None:
    try:
        block = isinstance(node, nodes.math_block)
        math = tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        logger.warning("%s: %s", error, node.astext(), location=node)
        raise nodes.SkipNode from error
    tag = "div" if block else "span"
    translator.body.append(f'<{tag} class="math">{math}</{tag}>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, the docstrings' conversion and the formulas'."""
    app.add_directive("api", Api)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # then napoleon
    app.connect("autodoc-skip-member", _skipped)
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

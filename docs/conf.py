"""Settings of the pages, which `make docs` writes to build/docs.

Sphinx with MyST because jax, flax and optax build their pages with it and Material for
MkDocs, the other choice, is near the end of its maintenance; furo because its pages
need nothing from another host. Notebooks are shown as they are stored: they were run by
`make notebooks`.
"""

import importlib.util
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

project = "medjax"
author = "The medjax authors"
copyright = author  # noqa: A001

# myst_nb brings myst_parser
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["extension.api"]
exclude_patterns = ["**.ipynb_checkpoints"]
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # scripts of other hosts
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

html_theme = "furo"
html_title = "medjax"
# A font with the tables of mathematics: not every system has one. ziamath ships it.
font = "fonts/STIXTwoMath-Regular.ttf"
html_static_path = [
    "static",
    str(pathlib.Path(importlib.util.find_spec("ziamath").origin).parent / font),
]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_copy_source = False
highlight_language = "none"  # what a terminal shows, formulas: no language to guess
smartquotes_action = "D"  # dashes only: what stands in quotes is a value to type

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
default_role = "py:obj"  # `name` is a link where the name has an entry
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_attr_annotations = False  # evaluated ones are long, and no markup
toc_object_entries_show_parents = "hide"

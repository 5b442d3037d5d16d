"""Settings of the API pages, which `make docs` writes to build/docs.

Sphinx with MyST because jax, flax and optax build their pages with it and Material for
MkDocs, the other choice, is near the end of its maintenance; furo because its pages
need nothing from another host.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

project = "medjax"
author = "The medjax authors"
copyright = author  # noqa: A001

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["extension.api"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

html_theme = "furo"
html_title = "medjax"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
default_role = "py:obj"  # `name` is a link where the name has an entry
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"

# Pages with entries, in the order in which a name is given to one of them.
api_modules = (
    "medjax.rl",
    "medjax.mri",
    "medjax.models.qwen25vl",
    "medjax.types",
    "medjax.sharding",
    "medjax.runtime.loop",
    "medjax.runtime.stages",
    "medjax",
)

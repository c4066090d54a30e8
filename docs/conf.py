"""Sphinx configuration: `python -m sphinx -W docs docs/_build`. Nothing is fetched while it builds.

`DOCS_TUTORIALS` says which tutorials are executed: "none" (the default), "quick" (two of them) or "all".
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from pages import write  # noqa: E402

import jaxtheory  # noqa: E402

project = "jaxtheory"
author = "the jaxtheory developers"
copyright = author
version = release = jaxtheory.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "api"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints"]
default_role = "code"
python_display_short_literal_types = True
maximum_signature_line_length = 90
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_ipywidgets_js = {}
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

TUTORIALS = sorted(path.name for path in (HERE / "tutorials").glob("*.md") if path.name != "index.md")
QUICK = {"tangent_kernel.md", "scaling_law.md"}
_chosen = os.environ.get("DOCS_TUTORIALS", "none")
if _chosen not in ("none", "quick", "all"):
    raise ValueError(f"DOCS_TUTORIALS must be none, quick or all, got {_chosen!r}; leave it out to execute none.")
nb_execution_mode = "off" if _chosen == "none" else "force"
nb_execution_excludepatterns = [f"tutorials/{name}" for name in TUTORIALS if _chosen == "quick" and name not in QUICK]

html_theme = "furo"
html_title = f"jaxtheory {release}"

write(HERE / "generated")

"""The site: ``sphinx-build -W docs build/site``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sphinx.util.logging import getLogger

import gallery_setup
import pages
import stepsize

project = "stepsize"
author = "the stepsize authors"
copyright = "the stepsize authors, MIT licence"
release = version = stepsize.__version__

extensions = [
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery"]  # the sources of the stories; their pages are made in stories/
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
html_theme = "furo"
html_title = "stepsize"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
pygments_dark_style = "github-dark"

default_role = "py:obj"  # `name` in a docstring links to the thing, if it is one of ours
add_module_names = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "stories",
    "filename_pattern": gallery_setup.runnable(),
    "within_subsection_order": "gallery_setup.place",
    "reset_modules": ("matplotlib", "gallery_setup.reset"),
    "reset_modules_order": "both",
    "capture_repr": (),  # what a story shows it prints
    "thumbnail_size": (480, 300),
    "image_srcset": ["2x"],
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
    "download_all_examples": True,
    "first_notebook_cell": '# If it is not here yet: %pip install "stepsize[plot]" scikit-learn',
}


def setup(app):
    for story in gallery_setup.left_out():
        getLogger(__name__).info("%s is shown and not run: its library is not installed", story)
    app.connect("builder-inited", lambda app: pages.write(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", pages.add_links)
    app.connect("autodoc-process-signature", pages.shorten_classes)

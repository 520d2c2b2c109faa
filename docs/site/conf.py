"""How Sphinx reads and shows the documents; `build.py` puts them in place first."""

project = "safelight"
author = "the safelight authors"
project_copyright = "the safelight authors"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
# Headings get GitHub's anchors, so that links work there and here.
myst_heading_anchors = 4
nitpicky = True
# What the examples show is often a fragment, or has an ellipsis in it; and a page may go straight
# from its title to a small heading.
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure", "myst.header"]

html_theme = "furo"
html_title = "safelight"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

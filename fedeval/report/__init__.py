"""Reports of an assessment, all made from its JSON dict: JSON, Markdown, LaTeX, and an HTML page.

`to_json`, `markdown` and `latex` are texts; `page(assessment, draw(assessment))` is one self-contained
HTML page with pictures. None of them computes a number of its own.
"""

from fedeval.report.latex import latex
from fedeval.report.machine import to_json
from fedeval.report.markdown import markdown
from fedeval.report.page import page
from fedeval.report.pictures import PICTURES, draw
from fedeval.report.pictures.canvas import Picture

__all__ = ["PICTURES", "Picture", "draw", "latex", "markdown", "page", "to_json"]

"""Reports of a validation, for machines and for people, all made from its JSON dict.

`to_json`, `junit`, `markdown` and `annotations` for CI; `page` for a person, with the pictures that
`draw(aggregates(dataset))` makes.
"""

from fedprep.report.ci import annotations, junit, markdown, to_json
from fedprep.report.page import page
from fedprep.report.pictures import PICTURES, Aggregates, Picture, aggregates, draw

__all__ = [
    "PICTURES",
    "Aggregates",
    "Picture",
    "aggregates",
    "annotations",
    "draw",
    "junit",
    "markdown",
    "page",
    "to_json",
]

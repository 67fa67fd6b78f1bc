"""A licence under the names that catalogues give it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["catalogue_licence", "croissant_licence"]

SPDX = {
    "Apache-2.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-SA-4.0", "CC0-1.0", "MIT",
    "ODbL-1.0", "PDDL-1.0",
}  # fmt: skip
"""Licences of data that both SPDX and the Hugging Face Hub know; the Hub writes them small."""
HUB = {"ODbL-1.0": "odbl", "PDDL-1.0": "pddl"}
NONE_STATED = ("", "none stated")


def catalogue_licence(source: Mapping[str, Any]) -> dict[str, str]:
    """Returns the entries on the licence for the front matter of a Hugging Face card.

    Args:
        source: the manifest's entry of that name.
    """
    licence = source["licence"]
    if licence in SPDX:
        return {"license": HUB.get(licence, licence.lower())}
    if licence in NONE_STATED:
        return {"license": "unknown"}
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    link = {"license_link": source["homepage"]} if source["homepage"] else {}
    return {"license": "other", "license_name": name, **link}


def croissant_licence(source: Mapping[str, Any], words: str) -> str | dict[str, str]:
    """Returns the licence for Croissant: the address of a known one, else a work with the owner's words."""
    licence = source["licence"]
    if licence in SPDX:
        return f"https://spdx.org/licenses/{licence}.html"
    link = {"url": source["homepage"]} if source["homepage"] else {}
    return {
        "@type": "sc:CreativeWork",
        "name": licence or "none stated",
        **({"description": words} if words else {}),
        **link,
    }

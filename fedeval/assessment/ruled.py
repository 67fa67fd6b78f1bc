"""The protocol that all systems of an assessment share."""

from __future__ import annotations

from fedeval.protocol import Protocol
from fedeval.setting import Setting

__all__ = ["protocol_of"]


def protocol_of(setting: Setting) -> Protocol:
    """Returns the protocol of a setting: full ranking, the items of train (and valid) left out."""
    return Protocol(split=setting.manifest.get("split", {}).get("method", "given"))

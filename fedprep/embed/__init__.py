"""From what an item says and shows, and what a user did, to vectors of fixed length.

Each encoder gives an `Embedded`; `normalise` brings the vectors of one modality to a common scale.
"""

from __future__ import annotations

from fedprep.embed.cache import EmbeddingCache, content_keys, embed_contents, encoder_folder
from fedprep.embed.embedded import Embedded

__all__ = [
    "Embedded",
    "EmbeddingCache",
    "content_keys",
    "embed_contents",
    "encoder_folder",
]

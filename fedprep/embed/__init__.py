"""From what an item says and shows, and what a user did, to vectors of fixed length.

Each encoder gives an `Embedded`; `normalise` brings the vectors of one modality to a common scale.
"""

from __future__ import annotations

from fedprep.embed.cache import EmbeddingCache, content_keys, embed_contents, encoder_folder
from fedprep.embed.embedded import Embedded
from fedprep.embed.encoders import ENCODERS
from fedprep.embed.images import embed_images
from fedprep.embed.normalise import normalise
from fedprep.embed.template import render_texts
from fedprep.embed.text import embed_text

__all__ = [
    "ENCODERS",
    "Embedded",
    "EmbeddingCache",
    "content_keys",
    "embed_contents",
    "embed_images",
    "embed_text",
    "encoder_folder",
    "normalise",
    "render_texts",
]

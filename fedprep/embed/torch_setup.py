"""torch made ready: imported past a broken torchvision, on one device, with so many threads.

torchvision from PyPI is built for CUDA. Beside a CPU build of torch its import fails with
`operator torchvision::nms does not exist`, and timm, transformers and sentence-transformers, which
import it where it is installed, fail with it. `import_torch` declares the operators that the import
asks for, so that it goes through; they stay without a kernel, and no encoder calls them.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fedprep.errors import EncoderError, MissingExtraError, RecipeError, install

__all__ = ["autocast", "choose_device", "cpu_threads", "import_torch", "precision_of"]

logger = logging.getLogger(__name__)

_DECLARED = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# A torch Library takes its operators with it when it is collected.
_kept_alive: list[Any] = []

# What a driver of an accelerator leaves on Linux: NVIDIA, AMD, and Windows' GPU seen from WSL.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def import_torch(extra: str) -> Any:
    """Returns the module torch, and makes torchvision (where it is installed) importable.

    Does nothing to a torchvision that is healthy or absent. Call it before timm, transformers or
    sentence-transformers are imported.

    Args:
        extra: the extra of fedprep that brings torch, for the message.

    Raises:
        MissingExtraError: torch is not installed.
        EncoderError: torchvision is installed, and broken in a way that cannot be mended here.
    """
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("PyTorch is not installed", hint=install(extra)) from None
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is not None:
        try:
            _import_torchvision(torch)
        except (ImportError, OSError, RuntimeError) as error:
            _forget_torchvision()
            raise EncoderError(
                f"torchvision is installed but cannot be imported: {str(error).splitlines()[0]}",
                expected=f"a torchvision that was built for torch {torch.__version__}, or none",
                hint="pip uninstall torchvision (fedprep works without it)",
            ) from error
    return torch


def _import_torchvision(torch: Any) -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        logger.info("torchvision was built for another torch (%s); declared what it lacks", error)
        _forget_torchvision()
        if not _kept_alive:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for schema in _DECLARED:
                library.define(schema)
            _kept_alive.append(library)
        importlib.import_module("torchvision")


def _forget_torchvision() -> None:
    """Makes the next import of torchvision start from the beginning."""
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def choose_device(device: str) -> str:
    """Returns the torch device that is meant: `"cpu"`, `"cuda"`, `"cuda:1"` or `"mps"`.

    Args:
        device: one of these, or `"auto"`: an accelerator where there is one. torch is imported only
            where one is asked for or may be there.

    Raises:
        RecipeError: no such kind of device.
        EncoderError: this machine, or this build of torch, has no such device.
        MissingExtraError: torch is not installed.
    """
    if device == "cpu" or (device == "auto" and not _may_have_accelerator()):
        return "cpu"
    kind = device.partition(":")[0]
    if kind not in ("auto", "cuda", "mps"):
        raise RecipeError(
            f"no device is called '{device}'", expected="auto | cpu | cuda | cuda:1 | mps"
        )
    torch = import_torch("text")
    available = {
        "cuda": bool(torch.cuda.is_available()),
        "mps": bool(torch.backends.mps.is_available()),
    }
    if kind == "auto":
        return next((name for name, there in available.items() if there), "cpu")
    number = device.partition(":")[2]
    there = available[kind] and (not number or _has_number(torch, number))
    if not there:
        raise EncoderError(
            f"the device '{device}' is asked for, and torch {torch.__version__} sees none",
            hint="--device cpu, or a build of torch for this accelerator",
        )
    return device


def _has_number(torch: Any, number: str) -> bool:
    return number.isdigit() and int(number) < torch.cuda.device_count()


def _may_have_accelerator() -> bool:
    return not sys.platform.startswith("linux") or any(Path(d).exists() for d in _DRIVERS)


def precision_of(device: str) -> str:
    """Returns the number format that `autocast` computes in: `"float32"`, `"bfloat16"` or `"float16"`."""
    if device.partition(":")[0] != "cuda":
        return "float32"
    return "bfloat16" if import_torch("text").cuda.is_bf16_supported() else "float16"


def autocast(device: str) -> AbstractContextManager[Any]:
    """Returns a context in which the device computes as `precision_of` says. It holds for one thread."""
    precision = precision_of(device)
    if precision == "float32":
        return nullcontext()
    torch = import_torch("text")
    context: AbstractContextManager[Any] = torch.autocast("cuda", dtype=getattr(torch, precision))
    return context


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[int]:
    """Sets how many threads one torch operation uses, and gives the number; afterwards it is as before.

    Args:
        threads: None leaves torch's own choice (the processor's cores, or OMP_NUM_THREADS).
    """
    torch = import_torch("text")
    before = int(torch.get_num_threads())
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield int(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)

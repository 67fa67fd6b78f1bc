"""The state that a Run goes on from: tensors and the rest of it, in one file that is whole or not there.

`checkpoint/last.safetensors` and `best/last.safetensors` hold the tensors; the round, the state and the
number of lines that the Run's logs had are in the file's header. A new one is written beside the old one,
brought to the disk, and renamed over it, so a process killed at any point leaves one that can be resumed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from fedprep.decoding import parse_json, typed
from fedprep.errors import OutputError, TrainingError
from fedprep.files import whole_file
from fedtrain.run.directory import Run
from fedtrain.run.rounds import LOGS, cut, n_lines, require_lines, synced

if TYPE_CHECKING:
    import torch

__all__ = [
    "BEST",
    "CHECKPOINT",
    "FREE",
    "Saved",
    "load",
    "read_tensors",
    "refuse_other",
    "resume",
    "save",
    "saved_round",
    "write_tensors",
]

CHECKPOINT, BEST = "checkpoint", "best"
FILE = "last.safetensors"
HEADER = "fedtrain"
FORMAT = 1

AGAIN = "start the Run again with --force"

FREE = ("checkpoint_every", "chunk_rows", "expected", "loggers", "threads")
"""Keys of a plan that change no number of a Run beyond float rounding: a resumed one may have others."""

Saved = tuple[int, "dict[str, torch.Tensor]", dict[str, Any]]
"""Round, tensors, state."""


class _Header(Struct):
    format: int
    round: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    state: dict[str, Any]
    lines: dict[str, Annotated[int, Meta(ge=0)]]


def save(
    run: Run,
    round: int,
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    *,
    keep_best: bool = False,
) -> None:
    """Writes the state after a round; the one before stays until this one is whole.

    Equal states give equal bytes. What the Run has logged by now belongs to the checkpoint.

    Args:
        run: where to.
        round: the round that is done.
        tensors: of any dtype and device.
        state: what JSON can hold, with text as keys.
        keep_best: this is the best round so far.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    try:
        for name in LOGS:
            synced(run.path / name)
    except OSError as error:
        raise OutputError(f"the Run's measures cannot be written: {error}") from None
    lines = {name: n_lines(run.path / name) for name in LOGS}
    header = {"format": FORMAT, "round": round, "state": dict(state), "lines": lines}
    # The best first: killed between the two, the rounds from the older checkpoint on come again, and with
    # them this very best. The other way round it would be missing.
    for folder in (BEST, CHECKPOINT) if keep_best else (CHECKPOINT,):
        write_tensors(run.path / folder / FILE, tensors, header)


def load(run: Run, folder: str = CHECKPOINT) -> Saved | None:
    """Returns round, tensors (on the CPU) and state of the last checkpoint, or of `BEST`; None without one.

    Raises:
        TrainingError: it is broken, or something else.
    """
    path = run.path / folder / FILE
    if not path.is_file():
        return None
    tensors, header = read_tensors(path)
    _refuse_foreign(path, header)
    return header["round"], tensors, header["state"]


def saved_round(run: Run) -> int:
    """Returns the round of the last checkpoint, 0 without one; its tensors are not looked at.

    Raises:
        TrainingError: it cannot be read, or something else is there.
    """
    path = run.path / CHECKPOINT / FILE
    if not path.is_file():
        return 0
    header = _header(path)
    _refuse_foreign(path, header)
    return int(header["round"])


def resume(run: Run, sound: Callable[[Saved | None], None] = lambda saved: None) -> Saved | None:
    """Returns what `load` does, and cuts off what the Run logged after it; without a checkpoint, all.

    So the rounds that come again write the same bytes as in a Run that nothing disturbed. The manifest
    says again that the Run is running, and how many rounds are done; it does so before anything is cut, for
    a Run that says it has finished is never read again to its end.

    Args:
        run: under its lock.
        sound: told what is saved once checkpoint and logs are known to be whole, and before anything is
            changed; what it raises leaves the Run as it is.

    Raises:
        TrainingError: the checkpoint is broken, or a log has lost lines that were there.
    """
    path = run.path / CHECKPOINT / FILE
    saved, lines = None, dict.fromkeys(LOGS, 0)
    if path.is_file():
        tensors, header = read_tensors(path)
        _refuse_foreign(path, header)
        saved, lines = (header["round"], tensors, header["state"]), header["lines"]
    for name in LOGS:
        require_lines(run.path / name, lines.get(name, 0))
    sound(saved)
    run.update(status="running", rounds_done=saved[0] if saved else 0)
    for name in LOGS:
        cut(run.path / name, lines.get(name, 0))
    return saved


def refuse_other(
    run: Run,
    plan: Mapping[str, Any],
    dataset_id: str,
    *,
    seed: int | None = None,
    free: Collection[str] = FREE,
) -> None:
    """Refuses to go on with a Run of another plan, seed or Dataset; `free` keys of the plan may differ.

    Raises:
        TrainingError: it names each key that differs, with both values.
    """
    if run.manifest["dataset_id"] != dataset_id:
        raise TrainingError(
            f"the Run was made on another Dataset: {_cut(run.manifest['dataset_id'], 12)},"
            f" not {_cut(dataset_id, 12)}",
            where=str(run.path),
            hint="give the Dataset that it was made on, or train into another folder with --out",
        )
    then, now = ({k: v for k, v in _flat(p).items() if _root(k) not in free and k not in free}
                 for p in (run.manifest["plan"], plan))  # fmt: skip
    if seed is not None:
        then["seed"], now["seed"] = run.manifest["seed"], seed
    keys = sorted(key for key in then | now if then.get(key, "unset") != now.get(key, "unset"))
    if keys:
        shown = [
            f"{key} was {_shown(then.get(key, 'unset'))}, is {_shown(now.get(key, 'unset'))}"
            for key in keys
        ]
        raise TrainingError(
            f"the Run was made with another plan: {'; '.join(shown[:8])}"
            + (f"; and {len(shown) - 8} more" if len(shown) > 8 else ""),
            where=str(run.path),
            hint="resume it with its own plan, or train into another folder with --out",
        )


# --- files of tensors ----------------------------------------------------------------------------------


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any] | None = None
) -> None:
    """Writes a file of tensors with a header, whole; equal tensors and header give equal bytes.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = _plain(tensors)
    facts = {**(header or {}), "sha256": _digest(plain)}
    metadata = {HEADER: json.dumps(facts, sort_keys=True, ensure_ascii=False)}
    try:
        with whole_file(path) as new:
            new.touch()
            mode = (
                new.stat().st_mode
            )  # what the user's umask gives any file: safetensors hides its own
            save_file(plain, new, metadata)
            new.chmod(mode)
            synced(new)
        synced(path.parent)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"tensors cannot be written: {error}", where=str(path)) from None


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Returns the tensors of a file, on the CPU, and its header.

    Raises:
        TrainingError: there is no file, it is cut off or changed, or `write_tensors` did not write it.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = _header(path)
    if header.pop("sha256") != _digest(tensors):
        raise TrainingError(
            "the file of tensors is damaged: its numbers are not those that were written",
            where=str(path),
            hint=AGAIN,
        )
    return tensors, header


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise TrainingError(
            "the file of tensors cannot be read", where=f"{path}: {error}",
            hint=AGAIN,
        ) from None  # fmt: skip


def _header(path: Path) -> dict[str, Any]:
    """Returns the header that `write_tensors` wrote, `sha256` with it."""
    with _opened(path) as file:
        text = (file.metadata() or {}).get(HEADER, "null")
    try:
        header = parse_json(text)
    except ValueError as error:
        raise TrainingError(
            "the header of the file of tensors cannot be read", where=f"{path}: {error}", hint=AGAIN
        ) from None
    if not isinstance(header, dict) or "sha256" not in header:
        raise TrainingError("the file of tensors is not one of fedtrain", where=str(path))
    return header


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the tensors on the CPU, in order of name, each with memory of its own."""
    found: dict[str, torch.Tensor] = {}
    places: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        whole = tensor.untyped_storage().nbytes() == tensor.nbytes
        if not whole or tensor.data_ptr() in places:
            tensor = tensor.clone()
        places.add(tensor.data_ptr())
        found[name] = tensor
    return found


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Returns SHA-256 over names, dtypes, shapes and bytes, in order of name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _refuse_foreign(path: Path, header: Mapping[str, Any]) -> None:
    missing = [key for key in ("format", "round", "state", "lines") if key not in header]
    if missing or header["format"] != FORMAT:
        what = f"has no {missing[0]}" if missing else f"has format {header['format']}"
        raise TrainingError(
            f"the checkpoint {what}",
            where=str(path),
            expected=f"a checkpoint in format {FORMAT}",
            hint=AGAIN,
        )
    typed(header, _Header, str(path), "the checkpoint's header", TrainingError, hint=AGAIN)


# --- what differs --------------------------------------------------------------------------------------


def _flat(plan: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Returns the leaves of nested tables by dotted key, as JSON would give them back."""
    found: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(plan)).items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[before + key] = value
    return found


def _root(key: str) -> str:
    return key.partition(".")[0]


def _shown(value: Any) -> str:
    return _cut(value if value == "unset" else json.dumps(value, ensure_ascii=False), 40)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"

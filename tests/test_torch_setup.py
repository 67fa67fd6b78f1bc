"""torch made ready: the way past a broken torchvision, devices, threads."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedprep.embed import torch_setup
from fedprep.embed.torch_setup import (
    autocast,
    choose_device,
    cpu_threads,
    import_torch,
    precision_of,
)
from fedprep.errors import EncoderError, MissingExtraError, RecipeError

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'fedprep[text]'"
)

ROOT = Path(torch_setup.__file__).parents[2]

# As torchvision 0.28 does it: a submodule is imported first, then an operator is asked for that only
# the compiled library brings.
BROKEN = """
import torch
from torchvision import extension
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: None)
mended = True
"""

WITH_BROKEN = """
import sys
try:
    import torchvision
except RuntimeError as error:
    assert "operator torchvision::nms does not exist" in str(error), error
else:
    raise SystemExit("the fake torchvision is not broken")
sys.modules.pop("torchvision.extension", None)
from fedprep.embed.torch_setup import import_torch
import_torch("text")
import_torch("text")
import torchvision
print(torchvision.mended, torchvision.extension.ready)
"""


def place(folder: Path, code: str) -> Path:
    """Writes a package torchvision into a folder."""
    package = folder / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    (package / "extension.py").write_text("ready = True\n")
    return folder


@needs_torch
def test_a_torchvision_that_misses_its_operators_is_made_importable(tmp_path: Path) -> None:
    place(tmp_path, BROKEN)
    run = subprocess.run(
        [sys.executable, "-c", WITH_BROKEN],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["True", "True"]


class FakeTorch(SimpleNamespace):
    """Counts the libraries of operators that are declared."""

    def __init__(self) -> None:
        super().__init__(__version__="2.0", declared=[], library=self)

    def Library(self, name: str, kind: str) -> FakeTorch:
        self.declared.append((name, kind))
        return self


@pytest.fixture
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    torch = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(torch_setup, "_kept_alive", [])
    return torch


def forget() -> None:
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def test_a_healthy_torchvision_is_imported_once_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_torch: FakeTorch
) -> None:
    count = tmp_path / "count"
    place(tmp_path, f"with open({str(count)!r}, 'a') as file: file.write('x')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_torch("text") is fake_torch
    assert import_torch("image") is fake_torch
    assert count.read_text() == "x"
    assert fake_torch.declared == []
    forget()


def test_an_absent_torchvision_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, fake_torch: FakeTorch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert import_torch("text") is fake_torch
    assert "torchvision" not in sys.modules
    assert fake_torch.declared == []


@pytest.mark.parametrize(
    "fault", ["raise RuntimeError('CUDA 12 against CUDA 13')", "import torchvision.no_such_part"]
)
def test_a_torchvision_broken_in_another_way_is_one_clear_error(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_torch: FakeTorch
) -> None:
    place(tmp_path, fault)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with pytest.raises(
            EncoderError, match="torchvision is installed but cannot be imported"
        ) as e:
            import_torch("image")
        assert "pip uninstall torchvision" in str(e.value)
    assert fake_torch.declared == []


def test_a_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="PyTorch is not installed") as caught:
        import_torch("image")
    assert "[image]'" in str(caught.value)


def test_without_an_accelerator_auto_is_the_processor_and_torch_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_setup, "_may_have_accelerator", lambda: False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert choose_device("auto") == "cpu"
    assert choose_device("cpu") == "cpu"
    assert precision_of("cpu") == "float32"


def accelerated(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    torch = SimpleNamespace(
        __version__="2.0",
        cuda=SimpleNamespace(is_available=lambda: cuda > 0, device_count=lambda: cuda),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
    )
    monkeypatch.setattr(torch_setup, "_may_have_accelerator", lambda: True)
    monkeypatch.setattr(torch_setup, "import_torch", lambda extra: torch)


def test_auto_takes_the_accelerator_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerated(monkeypatch, cuda=2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    accelerated(monkeypatch, mps=True)
    assert choose_device("auto") == "mps"
    accelerated(monkeypatch)
    assert choose_device("auto") == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:2", "cuda:x", "mps"])
def test_a_device_that_is_not_there_is_one_clear_error(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerated(monkeypatch, cuda=0 if device == "cuda" else 2)
    with pytest.raises(EncoderError, match=f"'{device}' is asked for") as caught:
        choose_device(device)
    assert "--device cpu" in str(caught.value)


def test_an_unknown_kind_of_device_is_refused() -> None:
    with pytest.raises(RecipeError, match="no device is called 'gpu'"):
        choose_device("gpu")


@needs_torch
def test_threads_are_set_and_then_as_before() -> None:
    torch = import_torch("text")
    before = torch.get_num_threads()
    with cpu_threads(3) as threads:
        assert threads == torch.get_num_threads() == 3
        with cpu_threads(None) as same:
            assert same == 3
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), cpu_threads(1):
        raise KeyError
    assert torch.get_num_threads() == before


@needs_torch
def test_the_processor_computes_in_float32() -> None:
    torch = import_torch("text")
    with autocast("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

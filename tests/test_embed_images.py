"""Pictures of items become vectors: equal ones once, resumable to the same bytes, failures counted."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import fedprep.embed.images as images
from fedprep.embed.decode import DAMAGED, NO_PICTURE
from fedprep.embed.downloads import UrlStore
from fedprep.embed.embedded import Embedded
from fedprep.embed.pictures import TOO_MANY_BYTES
from fedprep.embed.timm_encoder import (
    LITE0,
    LITE0_BLOCKS,
    LITE0_SEES,
    TimmEncoder,
    TimmModel,
    preprocessing,
    timm_encoder,
)
from fedprep.embed.timm_weights import import_timm, read_state
from fedprep.embed.torch_setup import import_torch
from fedprep.errors import EmptyDataError, EncoderError, MissingExtraError
from fedprep.recipe import EmbedImage

TINY = "test_efficientnet"
"""timm's own architecture for tests: 160 pixels, 256 features, 0.4 million parameters."""


def draw(seed: int, size: tuple[int, int] = (90, 70), kind: str = "PNG") -> bytes:
    """Returns a picture of a coloured disc on a gradient, as file bytes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]]
    pixels = np.stack([x * 255 // size[0], y * 255 // size[1], (x + y) % 256], axis=-1)
    disc = (x - rng.integers(size[0])) ** 2 + (y - rng.integers(size[1])) ** 2 < rng.integers(
        100, 900
    )
    pixels[disc] = rng.integers(0, 256, 3)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return file.getvalue()


def items(*ids: str, image: dict[str, str] | None = None) -> pl.DataFrame:
    paths = [(image or {}).get(source_id) for source_id in ids]
    return pl.DataFrame(
        {"source_id": ids, "image": paths}, schema={"source_id": pl.String, "image": pl.String}
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recipe's name of a small encoder with weights in a file."""
    torch = import_torch("image")
    from safetensors.torch import save_file

    torch.manual_seed(7)
    model = import_timm().create_model(TINY)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(model.state_dict(), path)
    return f"{TINY}@{path}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures, 0.png … 11.png, of which 11 equals 3."""
    path = tmp_path / "pictures"
    path.mkdir()
    for i in range(11):
        (path / f"{i}.png").write_bytes(draw(i))
    (path / "11.png").write_bytes(draw(3))
    return path


ALL = tuple(str(i) for i in range(12))


class Counted:
    """How often the encoder was loaded, asked for features, and pictures decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loads = self.batches = self.decoded = 0
        load, features, pixels = TimmEncoder.load, TimmModel.features, TimmModel.pixels

        def counted_load(encoder: TimmEncoder) -> TimmModel:
            self.loads += 1
            return load(encoder)

        def counted_features(model: TimmModel, batch: Any) -> Any:
            self.batches += 1
            return features(model, batch)

        def counted_pixels(model: TimmModel, data: bytes) -> Any:
            self.decoded += 1
            return pixels(model, data)

        monkeypatch.setattr(TimmEncoder, "load", counted_load)
        monkeypatch.setattr(TimmModel, "features", counted_features)
        monkeypatch.setattr(TimmModel, "pixels", counted_pixels)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def embed(
    table: pl.DataFrame, encoder: str, store: Path | None, cache: Path, **settings: Any
) -> Embedded:
    threads = settings.pop("threads", 1)
    options = EmbedImage(encoder=encoder, **({"batch_size": 4} | settings))
    return images.embed_images(
        table, options, store=store, cache=cache, device="cpu", threads=threads
    )


def same(a: Embedded, b: Embedded) -> bool:
    return (
        a.values.tobytes() == b.values.tobytes()
        and a.present.tolist() == b.present.tolist()
        and (a.encoder, a.steps) == (b.encoder, b.steps)
    )


# --- what comes out ----------------------------------------------------------------------------------


def test_features_are_those_of_timm_s_own_pipeline(tiny: str, folder: Path, tmp_path: Path) -> None:
    torch, timm = import_torch("image"), import_timm()
    got = embed(items(*ALL), tiny, folder, tmp_path / "cache", threads=2)
    model = timm.create_model(TINY)
    model.load_state_dict(read_state(Path(tiny.partition("@")[2])))
    model.reset_classifier(0)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        batch = torch.stack([transform(Image.open(folder / f"{i}.png")) for i in ALL])
        expected = model.eval()(batch).numpy()
    assert got.values == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected).max() > 0.01
    assert got.encoder["dim"] == expected.shape[1]
    assert got.encoder["size"] == config["input_size"][-1]
    assert got.present.all()


def test_the_packaged_weights_give_1280_features(folder: Path, tmp_path: Path) -> None:
    both = [
        embed(items("0", "1", "nothing"), name, folder, tmp_path / name, size=96)
        for name in ("efficientnet-lite0", "tf_efficientnet_lite0")
    ]
    assert same(*both)
    got = both[0]
    assert got.values.shape == (3, 1280)
    assert got.present.tolist() == [True, True, False]
    assert not got.values[2].any()
    assert got.encoder["revision"].startswith("579344248a93e230")
    assert got.encoder["size"] == 96
    assert (got.encoder["mean"], got.encoder["interpolation"]) == ([0.5] * 3, "bicubic")
    assert str(tmp_path) not in str(got.encoder)


def test_the_packaged_weights_know_what_they_see(tmp_path: Path) -> None:
    """All weights are where they belong: discs of one colour are nearer to each other than to stripes."""
    x = np.arange(128)
    stripes = np.broadcast_to(((x // 8) % 2 * 255)[None, :, None], (128, 128, 3))
    y, x = np.mgrid[:128, :128]
    for name, centre in (("disc", 64), ("moved", 58)):
        disc = np.full((128, 128, 3), 255, np.uint8)
        disc[(x - centre) ** 2 + (y - centre) ** 2 < 900] = (220, 30, 30)
        Image.fromarray(disc).save(tmp_path / f"{name}.png")
    Image.fromarray(stripes.astype(np.uint8)).save(tmp_path / "stripes.png")
    got = embed(
        items("disc", "moved", "stripes"), "efficientnet-lite0", tmp_path, tmp_path / "c", size=128
    )
    unit = got.values / np.linalg.norm(got.values, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.9
    assert unit[0] @ unit[2] < 0.5


def test_folder_zip_and_urls_give_the_same_bytes(
    tiny: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as file:
        for path in folder.iterdir():
            file.write(path, f"inner/{path.name}")
    monkeypatch.setattr(UrlStore, "fetch", lambda *_, **__: None)
    monkeypatch.setattr(UrlStore, "read", lambda _, url: (folder / Path(url).name).read_bytes())
    urls = items(*ALL, image={i: f"http://host/{i}.png" for i in ALL})
    from_folder = embed(items(*ALL), tiny, folder, tmp_path / "1")
    assert same(from_folder, embed(items(*ALL), tiny, tmp_path / "pictures.zip", tmp_path / "2"))
    assert embed(urls, tiny, None, tmp_path / "3").values.tobytes() == from_folder.values.tobytes()


# --- the same bytes, and as little work as possible --------------------------------------------------


def test_equal_pictures_are_embedded_once(
    tiny: str, folder: Path, tmp_path: Path, counted: Counted
) -> None:
    got = embed(items(*ALL), tiny, folder, tmp_path / "cache")
    assert (counted.decoded, counted.batches) == (11, 3)
    assert got.values[11].tobytes() == got.values[3].tobytes()
    assert len(np.unique(got.values, axis=0)) == 11


def test_a_second_run_decodes_nothing_and_loads_no_encoder(
    tiny: str, folder: Path, tmp_path: Path, counted: Counted
) -> None:
    first = embed(items(*ALL), tiny, folder, tmp_path / "cache")
    again = embed(items(*ALL), tiny, folder, tmp_path / "cache")
    assert same(first, again)
    assert (counted.loads, counted.batches, counted.decoded) == (1, 3, 11)


def test_a_second_run_with_the_packaged_encoder_does_not_even_import_torch(
    folder: Path, tmp_path: Path
) -> None:
    first = embed(items("0", "1"), "efficientnet-lite0", folder, tmp_path / "cache", size=64)
    program = f"""
import sys
from pathlib import Path
import polars as pl
from fedprep.embed import embed_images
from fedprep.recipe import EmbedImage

items = pl.DataFrame({{"source_id": ["0", "1"], "image": [None, None]}})
options = EmbedImage(encoder="efficientnet-lite0", size=64, batch_size=4)
cache = Path({str(tmp_path / "cache")!r})
made = embed_images(items, options, store=Path({str(folder)!r}), cache=cache, device="cpu")
assert not {{"torch", "timm", "torchvision"}} & set(sys.modules)
sys.stdout.buffer.write(made.values.tobytes())
"""
    root = Path(images.__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=root, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stdout == first.values.tobytes()


@pytest.mark.parametrize(("killed_at", "left_over"), [(0, 11), (1, 11), (2, 3)])
def test_a_killed_run_resumes_to_the_same_bytes(
    killed_at: int,
    left_over: int,
    tiny: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    counted: Counted,
) -> None:
    undisturbed = embed(items(*ALL), tiny, folder, tmp_path / "undisturbed")
    monkeypatch.setattr(images, "CHUNK", 8)
    features = TimmModel.features
    left = iter(range(killed_at))

    def killed(model: TimmModel, batch: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return features(model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TimmModel, "features", killed)
        with pytest.raises(KeyboardInterrupt):
            embed(items(*ALL), tiny, folder, tmp_path / "cache")
    before = counted.decoded
    resumed = embed(items(*ALL), tiny, folder, tmp_path / "cache")
    assert same(resumed, undisturbed)
    assert counted.decoded - before == left_over


def test_company_and_threads_change_no_byte(tiny: str, folder: Path, tmp_path: Path) -> None:
    whole = embed(items(*ALL), tiny, folder, tmp_path / "whole")
    embed(items("7", "2"), tiny, folder, tmp_path / "cache")
    embed(items("9"), tiny, folder, tmp_path / "cache", threads=2)
    assert same(whole, embed(items(*ALL), tiny, folder, tmp_path / "cache", threads=2))


def test_other_settings_are_other_embeddings(
    tiny: str, folder: Path, tmp_path: Path, counted: Counted
) -> None:
    own = embed(items("0"), tiny, folder, tmp_path / "cache")
    small = embed(items("0"), tiny, folder, tmp_path / "cache", size=64)
    assert counted.batches == 2
    assert not np.allclose(own.values, small.values)
    assert (own.encoder["size"], small.encoder["size"]) == (160, 64)


# --- pictures that cannot be used --------------------------------------------------------------------


@pytest.fixture
def faulty(folder: Path) -> Path:
    (folder / "1.png").write_bytes(draw(1)[:300])
    (folder / "2.png").write_bytes(b"<html>gone</html>")
    (folder / "4.png").write_bytes(b"<html>gone</html>")
    (folder / "5.png").write_bytes(bytes(50_001))
    (folder / "6.png").unlink()
    return folder


def test_failures_are_counted_by_reason_and_cost_only_their_items(
    tiny: str, faulty: Path, tmp_path: Path, counted: Counted
) -> None:
    got = embed(items(*ALL), tiny, faulty, tmp_path / "cache", max_bytes=50_000)
    assert [i for i in ALL if not got.present[int(i)]] == ["1", "2", "4", "5", "6"]
    assert [(s.unit, s.rows_in, s.rows_out, s.why, s.examples) for s in got.steps] == [
        ("items", 12, 11, got.steps[0].why, ("item 6",)),
        ("images", 11, 10, TOO_MANY_BYTES, ("item 5",)),
        ("images", 10, 8, NO_PICTURE, ("item 2", "item 4")),
        ("images", 8, 7, DAMAGED, ("item 1",)),
    ]
    assert np.isfinite(got.values).all()
    assert not got.values[~got.present].any()
    sound = embed(items("0", "3"), tiny, faulty, tmp_path / "other")
    assert got.values[[0, 3]].tobytes() == sound.values.tobytes()
    before = counted.decoded
    assert same(got, embed(items(*ALL), tiny, faulty, tmp_path / "cache", max_bytes=50_000))
    assert counted.decoded == before


def test_a_store_without_any_of_the_pictures_is_an_error(
    tiny: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(EmptyDataError, match=r"none of 2 items has a picture[\s\S]*A\.jpg"):
        embed(items("A", "B"), tiny, folder, tmp_path / "cache")


def test_pictures_of_which_none_can_be_used_are_an_error(
    tiny: str, faulty: Path, tmp_path: Path
) -> None:
    with pytest.raises(EmptyDataError, match=r"none of 2 pictures[\s\S]*truncated or damaged: 1"):
        embed(items("1", "2", "6"), tiny, faulty, tmp_path / "cache")


def test_urls_that_all_fail_are_an_error(tiny: str, tmp_path: Path) -> None:
    table = items("1", "2", "3", image={"1": "ftp://host/1.jpg", "2": "http:///2.jpg"})
    with pytest.raises(
        EmptyDataError, match=r"none of 2 pictures[\s\S]*no http or https address: 2"
    ):
        embed(table, tiny, None, tmp_path / "cache")
    with pytest.raises(EmptyDataError, match=r"the item has no URL"):
        embed(items("1"), tiny, None, tmp_path / "cache")


# --- encoders ----------------------------------------------------------------------------------------


@pytest.fixture
def state(tiny: str) -> dict[str, Any]:
    return read_state(Path(tiny.partition("@")[2]))


def test_checkpoints_of_several_kinds_give_the_same_features(
    tiny: str, state: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    torch = import_torch("image")
    from safetensors.torch import save_file

    expected = embed(items("0"), tiny, folder, tmp_path / "cache").values
    torch.save(state, tmp_path / "bare.pth")
    with_module = {f"module.{key}": value for key, value in state.items()}
    torch.save({"arch": TINY, "epoch": 3, "state_dict": with_module}, tmp_path / "training.pth")
    headless = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    save_file(headless, tmp_path / "headless.safetensors", metadata={"architecture": TINY})
    few = state | {
        key: value[:7].clone() for key, value in state.items() if key.startswith("classifier.")
    }
    torch.save({"state_dict": state, "state_dict_ema": few}, tmp_path / "tuned.pth")
    for name in (
        f"{TINY}@{tmp_path}/bare.pth",
        f"{tmp_path}/training.pth",
        f"{tmp_path}/headless.safetensors",
        f"{TINY}@{tmp_path}/tuned.pth",
    ):
        got = embed(items("0"), name, folder, tmp_path / "cache")
        assert got.values.tobytes() == expected.tobytes(), name
        assert got.encoder["name"] == TINY


class Command:
    """What a hostile checkpoint would run."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_with_code_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Command()))
    with pytest.raises(EncoderError, match=r"cannot be read[\s\S]*evil\.pth"):
        embed(items("0"), f"{TINY}@{tmp_path}/evil.pth", folder, tmp_path / "cache")
    assert not Path("ran").exists()


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_are_refused(
    fault: str, state: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    torch = import_torch("image")
    if fault == "missing":
        del state["conv_stem.weight"]
    elif fault == "unknown":
        state["conv_other.weight"] = torch.zeros(3)
    else:
        state["conv_head.weight"] = state["conv_head.weight"][:5].clone()
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(EncoderError, match=f"do not fit {TINY}"):
        embed(items("0"), f"{TINY}@{tmp_path}/odd.pth", folder, tmp_path / "cache")


def test_values_that_are_not_finite_name_the_picture(
    state: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    torch = import_torch("image")
    state["conv_head.weight"][:] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(EncoderError, match=r"not finite[\s\S]*0\.png"):
        embed(items("0"), f"{TINY}@{tmp_path}/nan.pth", folder, tmp_path / "cache")


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            "mobilenetv3_smal_050",
            "no image encoder 'mobilenetv3_smal_050'[\\s\\S]*mobilenetv3_small_050",
        ),
        ("mobilenetv3_small_050.lamb_in2k", "no weights 'lamb_in2k'[\\s\\S]*lamb_in1k"),
        ("resnet18@gone.pth", "no such file of weights[\\s\\S]*gone.pth"),
        ("resnot18@there.pth", "no image encoder 'resnot18'[\\s\\S]*resnet18"),
        ("there.pth", "does not say of which architecture[\\s\\S]*@there.pth"),
        (
            "mobilenetv3_small_050",
            "Hugging Face hub[\\s\\S]*efficientnet-lite0[\\s\\S]*@model.safetensors",
        ),
    ],
)
def test_an_encoder_that_cannot_be_had_is_one_clear_error(
    encoder: str, message: str, folder: Path
) -> None:
    import_torch("image").save({"x": import_torch("image").zeros(1)}, "there.pth")
    with pytest.raises(EncoderError, match=message):
        embed(items("0"), encoder, folder, Path("cache"))
    assert not Path("cache").exists()


def test_weights_in_the_hub_s_cache_are_used_without_a_network(
    tiny: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    weights = tiny.partition("@")[2]
    asked = []

    def cached(repository: str, file: str, *, local_files_only: bool = False) -> str:
        asked.append((repository, file, local_files_only))
        return weights

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cached)
    got = embed(items("0"), TINY, folder, tmp_path / "cache")
    assert asked == [(f"timm/{TINY}.r160_in1k", "model.safetensors", True)]
    assert (
        got.values.tobytes() == embed(items("0"), tiny, folder, tmp_path / "cache").values.tobytes()
    )


def test_what_is_written_of_the_packaged_encoder_is_what_timm_says() -> None:
    assert preprocessing(LITE0) == LITE0_SEES
    model = import_timm().create_model(LITE0)
    assert [len(stage) for stage in model.blocks] == LITE0_BLOCKS


def test_a_batch_on_a_processor_stays_small() -> None:
    sizes = {
        size: timm_encoder(EmbedImage(encoder="efficientnet-lite0", size=size), device="cpu").facts[
            "batch_size"
        ]
        for size in (0, 64, 128, 600)
    }
    assert sizes == {0: 5, 64: 32, 128: 16, 600: 1}
    facts = timm_encoder(EmbedImage(encoder="efficientnet-lite0"), device="mps").facts
    assert facts["batch_size"] == 32


@pytest.mark.parametrize("package", ["timm", "PIL"])
def test_a_missing_extra_is_named(
    package: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[image\]'"):
        embed(items("0"), "efficientnet-lite0", folder, Path("cache"))


def test_a_model_of_fixed_size_takes_another(folder: Path, tmp_path: Path) -> None:
    torch, timm = import_torch("image"), import_timm()
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    got = embed(items("0"), f"test_vit@{tmp_path}/vit.pth", folder, tmp_path / "cache", size=96)
    assert got.values.shape[0] == 1
    assert np.isfinite(got.values).all()


def test_what_identifies_an_encoder_holds_no_path_and_follows_its_weights(
    tiny: str, state: dict[str, Any], tmp_path: Path
) -> None:
    torch = import_torch("image")
    one = timm_encoder(EmbedImage(encoder=tiny), device="cpu").facts
    state["conv_head.weight"] += 1e-3
    torch.save(state, tmp_path / "other.pth")
    other = timm_encoder(EmbedImage(encoder=f"{TINY}@{tmp_path}/other.pth"), device="cpu").facts
    assert one["revision"] != other["revision"]
    assert {k: v for k, v in one.items() if k != "revision"} == {
        k: v for k, v in other.items() if k != "revision"
    }
    assert "/" not in str(one)


# --- real pictures -----------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "n_pictures", "n_distinct"),
    [("movielens/posters_dev.zip", 122, 122), ("amazon2018/Gift_Cards_images.zip", 442, 436)],
)
def test_real_pictures_all_decode(
    name: str,
    n_pictures: int,
    n_distinct: int,
    mirror: Path,
    tmp_path: Path,
    tiny: str,
    counted: Counted,
) -> None:
    with zipfile.ZipFile(mirror / name) as file:
        ids = [Path(member).stem for member in file.namelist() if member.endswith(".jpg")]
    got = embed(
        items(*ids, "none"),
        tiny,
        mirror / name,
        tmp_path / "cache",
        size=64,
        threads=2,
        batch_size=32,
    )
    assert got.present.sum() == n_pictures == len(ids)
    assert counted.decoded == n_distinct == len(np.unique(got.values[:-1], axis=0))
    assert [step.rows_out for step in got.steps] == [n_pictures]


@pytest.mark.realdata
def test_of_the_reviewed_gift_cards_115_have_a_picture(
    mirror: Path, tmp_path: Path, tiny: str
) -> None:
    import gzip

    import msgspec

    with gzip.open(mirror / "amazon2018" / "Gift_Cards_5.json.gz") as file:
        asins = sorted({msgspec.json.decode(line)["asin"] for line in file})
    assert len(asins) == 148
    store = mirror / "amazon2018" / "Gift_Cards_images.zip"
    got = embed(items(*asins), tiny, store, tmp_path / "cache", size=64, threads=2, batch_size=32)
    assert got.present.sum() == 115
    assert got.steps[0].dropped == 33


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch = import_torch("image")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""Unpacking: by content, only what is wanted, nothing outside its folder, no bomb, all or nothing."""

from __future__ import annotations

import gzip
import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprep.errors import FetchError, OutputError
from fedprep.fetch import archives, unpack
from fedprep.fetch.unpacked import keep_unpacked, root_of

RATINGS = b"1::1193::5::978300760\n" * 2000
FILES = {
    "ml-1m/ratings.dat": RATINGS,
    "ml-1m/movies.dat": b"1::Toy Story (1995)\n",
    "ml-1m/README": b"?",
}


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return out.getvalue()


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def tgz_of(files: dict[str, bytes]) -> bytes:
    return tar_of(files, "w:gz")


def written(body: bytes, name: str = "archive") -> Path:
    path = Path(name)
    path.write_bytes(body)
    return path


def unpacked(folder: Path = Path("out")) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(params=[zip_of, tar_of, tgz_of])
def pack(request: pytest.FixtureRequest) -> Callable[[dict[str, bytes]], bytes]:
    return request.param


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path) -> Iterator[None]:
    yield
    assert list(tmp_path.rglob("*.tmp")) == []
    assert list(tmp_path.parent.glob("evil*")) == []


def test_an_archive_is_known_by_content_not_by_name(pack: Callable) -> None:
    paths = unpack(written(pack(FILES), "picture.jpg"), Path("out"))
    assert paths == sorted(Path("out", name) for name in FILES)
    assert unpacked() == FILES


def test_only_the_wanted_members_are_written(pack: Callable) -> None:
    unpack(written(pack(FILES)), Path("out"), members=["ratings.dat", "ml-1m/READ*"])
    assert unpacked() == {k: v for k, v in FILES.items() if "movies" not in k}


def test_a_member_is_the_end_of_a_path_not_of_a_name(pack: Callable) -> None:
    files = {"a/ratings.dat": b"yes", "a/old-ratings.dat": b"no", "b/ratings.dat/x": b"no"}
    unpack(written(pack(files)), Path("out"), members=["ratings.dat"])
    assert unpacked() == {"a/ratings.dat": b"yes"}


@pytest.mark.parametrize("inner", [zip_of, tar_of, tgz_of])
def test_an_archive_in_an_archive_is_looked_into(pack: Callable, inner: Callable) -> None:
    nested = {"Yelp JSON/yelp_dataset.tar": inner({"review.json": b"{}", "tip.json": b"{}"})}
    body = pack({"Yelp JSON/terms.pdf": b"%PDF", **nested})
    unpack(written(body), Path("out"), members=["review.json"])
    assert unpacked() == {"Yelp JSON/yelp_dataset.tar/review.json": b"{}"}


def test_archives_in_archives_end_somewhere() -> None:
    body = zip_of({"review.json": b"{}"})
    for _ in range(archives.MAX_DEPTH):
        body = zip_of({"inner.zip": body})
    assert unpack(written(body), Path("out"), members=["review.json"]) == []


ESCAPES = [
    "../evil", "a/../../evil", "/evil", "//host/evil", "C:/evil", "c:evil",
    "..\\evil", "\\evil", "a/..\\..\\evil", "evil\nname",
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leaves_its_folder_refuses_the_whole_archive(pack: Callable, name: str) -> None:
    body = pack({"ml-1m/ratings.dat": RATINGS, name: b"evil"})
    with pytest.raises(FetchError, match=r"outside its folder .* refused\n  where: .*archive"):
        unpack(written(body), Path("out"), members=["ratings.dat"])
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "names", [("a/x", "a/X"), ("a/x", "a/x"), ("a", "a/x"), ("a/x", "a"), ("\u00e9", "e\u0301")]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_would_overwrite_each_other_are_refused(
    pack: Callable, names: tuple[str, str]
) -> None:
    out = io.BytesIO()
    if pack is zip_of:
        with zipfile.ZipFile(out, "w") as archive:
            for name in names:
                archive.writestr(name, name)
    else:
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(FetchError, match="twice"):
        unpack(written(out.getvalue()), Path("out"))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("ratings.dat")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(FetchError, match="link, a device"):
        unpack(written(out.getvalue()), Path("out"))


def test_links_in_a_zip_are_refused() -> None:
    info = zipfile.ZipInfo("ratings.dat")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(FetchError, match="link or a device"):
        unpack(written(out.getvalue()), Path("out"))


def test_an_encrypted_zip_is_refused_with_a_way_out() -> None:
    body = bytearray(zip_of({"ratings.dat": RATINGS}))
    body[6] |= 1
    body[body.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(FetchError, match=r"encrypted(.|\n)*--from PATH"):
        unpack(written(bytes(body)), Path("out"))


BOMB = {"ratings.dat": bytes(3 << 20)}


@pytest.mark.parametrize(
    "body",
    [
        zip_of(BOMB),
        tgz_of(BOMB),
        zip_of({"inner.zip": zip_of(BOMB)}),
        zip_of({"inner.tar": tar_of(BOMB)}),
        tgz_of({"skipped": bytes(3 << 20), "ratings.dat": b""}),
        gzip.compress(tar_of({"ratings.dat": b""}) + bytes(3 << 20)),
    ],
    ids=["zip", "tgz", "zip in zip", "tar in zip", "skipped member", "behind the end"],
)
def test_a_bomb_is_stopped_by_what_comes_out(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    with pytest.raises(FetchError, match=r"more than 1,048,576 bytes .* bomb"):
        unpack(written(body), Path("out"), members=["ratings.dat"], max_ratio=10)
    with pytest.raises(FetchError, match="more than 1,000 bytes"):
        unpack(written(body), Path("out"), members=["ratings.dat"], max_bytes=1000)
    assert not Path("out").exists()


def test_a_bomb_that_lies_about_its_size_is_damaged() -> None:
    body = bytearray(zip_of(BOMB))
    start = body.index(b"PK\x01\x02") + 24
    body[start : start + 4] = (10).to_bytes(4, "little")
    with pytest.raises(FetchError, match="damaged"):
        unpack(written(bytes(body)), Path("out"))


def test_a_sparse_tar_is_refused() -> None:
    info = tarfile.TarInfo("ratings.dat")
    info.type = tarfile.GNUTYPE_SPARSE
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(FetchError, match=r"sparse|damaged"):
        unpack(written(out.getvalue()), Path("out"))


def test_a_tar_header_that_would_fill_the_memory_is_refused() -> None:
    info = tarfile.TarInfo("ratings.dat")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    body = info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)
    with pytest.raises(FetchError, match=r"damaged.*a header of 4,294,967,296 bytes"):
        unpack(written(body), Path("out"))


@pytest.mark.parametrize("keep", [0.999, 0.9, 0.5, 0.2])
def test_an_archive_that_is_cut_off_is_named(pack: Callable, keep: float) -> None:
    noise = np.random.default_rng(0).bytes(10_000)
    body = pack({"noise": noise, **FILES})
    body = body.rstrip(b"\0") if pack is tar_of else body
    with pytest.raises(
        FetchError, match=r"(?s)archive is damaged or cut off.*where.*fetch it again"
    ):
        unpack(written(body[: int(len(body) * keep)]), Path("out"))
    assert not Path("out").exists()


def test_a_tar_that_is_cut_off_between_two_files_is_noticed() -> None:
    body = tar_of({"a": b"", "b": b""})
    with pytest.raises(FetchError, match="end mark"):
        unpack(written(body[: 2 * tarfile.BLOCKSIZE]), Path("out"))


@given(data=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_is_an_error_or_nothing(data: st.DataObject) -> None:
    pack = data.draw(st.sampled_from([zip_of, tar_of, tgz_of]))
    body = bytearray(pack({"ml-1m/ratings.dat": RATINGS[:900], "ml-1m/README": b"?"}))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    before = {path for path in Path().iterdir() if path.name not in ("archive", "out")}
    try:
        paths = unpack(written(bytes(body)), Path("out"))
    except FetchError:
        pass
    else:
        assert all(path.resolve().is_relative_to(Path("out").resolve()) for path in paths)
    finally:
        shutil.rmtree("out", ignore_errors=True)
    assert {path for path in Path().iterdir() if path.name not in ("archive", "out")} == before


@pytest.mark.parametrize(
    "body", [b"", b"<html>Sign in</html>", gzip.compress(RATINGS), bytes(10_240)]
)
def test_what_is_no_archive_is_refused_with_its_first_bytes(body: bytes) -> None:
    assert not archives.is_archive(written(body))
    with pytest.raises(FetchError, match="no archive: it begins with b"):
        unpack(written(body), Path("out"))


def test_a_disk_too_small_is_named_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = written(zip_of(FILES))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 4, 5))
    with pytest.raises(OutputError, match=r"44,021 bytes are needed, 5 are free"):
        unpack(archive, Path("out"))


def test_a_disk_that_fills_up_leaves_nothing(
    pack: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = written(pack(FILES))
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: object) -> io.IOBase:
        return opened(Path("/dev/full"), mode, **options) if "w" in mode else opened(path, mode)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match="no space left for the contents of archive"):
        unpack(archive, Path("out"))
    assert not Path("out").exists()


def test_unpacking_is_told_step_by_step(pack: Callable) -> None:
    seen: list[tuple[str, int, int | None]] = []
    archive = written(pack(FILES))
    unpack(archive, Path("out"), progress=lambda *step: seen.append(step))
    size = archive.stat().st_size
    assert {(task, total) for task, _, total in seen} == {("unpack archive", size)}
    assert all(0 < done <= size for _, done, _ in seen)


def test_an_archive_is_unpacked_once_and_again_where_a_file_was_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive, cache = written(zip_of(FILES)), Path("cache")
    folder, _ = keep_unpacked(archive, "ab" * 32, ["ratings.dat"], cache)
    assert folder == Path("cache/unpacked/abababababababab")
    with monkeypatch.context() as patch:
        patch.setattr("fedprep.fetch.unpacked.unpack", None)
        again = keep_unpacked(archive, "ab" * 32, ["ratings.dat"], cache)
        assert again == (folder, ["ml-1m/ratings.dat"])
    (folder / "ml-1m/ratings.dat").write_bytes(b"mine")
    keep_unpacked(archive, "ab" * 32, ["ratings.dat"], cache)
    assert unpacked(folder) == {"ml-1m/ratings.dat": RATINGS}


def test_members_wanted_later_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    archive, cache = written(zip_of(FILES)), Path("cache")
    keep_unpacked(archive, "ab" * 32, ["ratings.dat"], cache)
    folder, _ = keep_unpacked(archive, "ab" * 32, ["movies.dat", "nothing"], cache)
    assert sorted(unpacked(folder)) == ["ml-1m/movies.dat", "ml-1m/ratings.dat"]
    monkeypatch.setattr("fedprep.fetch.unpacked.unpack", None)
    assert keep_unpacked(archive, "ab" * 32, ["nothing", "ratings.dat"], cache)[0] == folder


def test_what_a_killed_unpacking_left_is_cleared_away() -> None:
    stale = Path("cache/unpacked/.abababababababab.x.tmp")
    stale.mkdir(parents=True)
    half = Path("cache/unpacked/abababababababab/ml-1m/ratings.dat")
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    keep_unpacked(written(zip_of(FILES)), "ab" * 32, ["ratings.dat"], Path("cache"))
    assert half.read_bytes() == RATINGS
    assert not stale.exists()


def test_a_mark_that_is_not_whole_counts_as_none() -> None:
    archive, cache = written(zip_of(FILES)), Path("cache")
    folder, _ = keep_unpacked(archive, "ab" * 32, ["ratings.dat"], cache)
    folder.with_name(f"{folder.name}.json").write_text('{"sha256": ')
    assert keep_unpacked(archive, "ab" * 32, ["ratings.dat"], cache)[0] == folder


def test_the_root_is_where_members_are_relative_paths() -> None:
    files = ["y/ratings.dat", "y/movies.dat", "old/older/ratings.dat", "y/z/photos/1.jpg"]
    for members, root in (
        (["ratings.dat", "movies.dat"], "x/y"),
        (["y/ratings.dat"], "x"),
        (["photos/*.jpg"], "x/y/z"),
        (["photos/*.jpg", "ratings.dat"], "x/y"),
    ):
        assert root_of(Path("x"), files, members) == Path(root)
    assert root_of(Path("x"), files, ["nothing"]) is None

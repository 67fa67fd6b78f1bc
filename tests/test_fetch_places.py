"""Places: the cache, the mirrors of the environment, files found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedprep.fetch import find_file, mirrors
from fedprep.fetch.places import files_below, mirror_folder, split_places
from fedprep.files import cache_folder


def put(name: str) -> Path:
    path = Path(name).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_cache_is_where_the_environment_says_or_the_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDPREP_CACHE", "here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("FEDPREP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "fedprep"
    assert not cache_folder().exists()


@pytest.mark.parametrize(
    ("text", "separator", "places"),
    [
        ("", ":", ()),
        (" ", ":", ()),
        ("/a", ":", ("/a",)),
        ("/a:/b", ":", ("/a", "/b")),
        ("/a:/b::/a", ":", ("/a", "/b")),
        ("/a, /b;/c /d\n/e", ":", ("/a", "/b", "/c", "/d", "/e")),
        ("https://host/x", ":", ("https://host/x",)),
        ("https://host:8080/x:/a", ":", ("https://host:8080/x", "/a")),
        ("/a:http://[::1]:80/x:/b", ":", ("/a", "http://[::1]:80/x", "/b")),
        ("https://me:secret@host/x:../a", ":", ("https://me:secret@host/x", "../a")),
        ("https://one/x:https://two", ":", ("https://one/x", "https://two")),
        ("https://one https://two,/a", ":", ("https://one", "https://two", "/a")),
        ("/a https://one:81", ":", ("/a", "https://one:81")),
        ("file:///a/b:/c", ":", ("file:///a/b", "/c")),
        (r"C:\raw;D:/raw;https://host:1/x", ";", (r"C:\raw", "D:/raw", "https://host:1/x")),
    ],
)
def test_mirrors_are_told_apart(text: str, separator: str, places: tuple[str, ...]) -> None:
    assert split_places(text, separator) == places


def test_a_folder_that_exists_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("raw files, mine").mkdir()
    Path("my raw").mkdir()
    monkeypatch.setenv("FEDPREP_MIRROR", "raw files, mine")
    assert mirrors() == ("raw files, mine",)
    monkeypatch.setenv("FEDPREP_MIRROR", "my raw,other one")
    assert mirrors() == ("my raw", "other", "one")


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    assert mirror_folder(f"file://{tmp_path}/a%20b") == tmp_path / "a b"


def test_files_below_are_found_shallow_ones_first_and_links_end() -> None:
    deep, shallow = put("m/a/b/c/x"), put("m/z/x")
    Path("m/a/loop").symlink_to(Path("m").absolute(), target_is_directory=True)
    found = files_below(Path("m"), {"x"}.__contains__)
    assert [path.absolute() for path in found] == [shallow, deep]
    assert files_below(Path("nowhere")) == []


def test_a_users_file_is_found_as_given_then_in_folders_then_below_mirrors() -> None:
    below = put("mirror/deep/er/plots.dat")
    assert find_file("plots.dat", folders=[], mirrors=("mirror",)) == below
    assert find_file("er/plots.dat", mirrors=("http://host", "mirror")) == below
    assert find_file("other/plots.dat", mirrors=("mirror",)) is None
    beside = put("recipes/plots.dat")
    assert find_file("plots.dat", folders=[Path("recipes")], mirrors=("mirror",)) == beside
    assert find_file("plots.dat", folders=[beside], mirrors=()) == beside
    own = put("plots.dat")
    assert find_file("plots.dat", folders=[Path("recipes")], mirrors=("mirror",)) == own
    assert find_file(own, mirrors=()) == own
    assert find_file(own.with_name("nowhere"), mirrors=("mirror",)) is None


def test_a_users_folder_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    put("mirror/deep/posters/1.jpg")
    monkeypatch.setenv("FEDPREP_MIRROR", "mirror")
    assert find_file("posters") == Path("mirror/deep/posters").absolute()

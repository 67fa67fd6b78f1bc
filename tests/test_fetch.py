"""Fetch: roles filled from hand, cache, mirrors; checked wherever they come from; clear refusals."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import fedprep.fetch
from fedprep.errors import ChecksumError, FetchError
from fedprep.fetch import Fetched, fetch
from fedprep.files import cache_folder
from fedprep.schema import Candidate, RawFile

MEMBERS = ("ratings.dat", "movies.dat", "users.dat")
FILES = {f"ml-1m/{name}": f"1::{name}\n".encode() * 50 for name in MEMBERS}


def zip_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(zipfile.ZipInfo(name), body)
    return out.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


ZIP = zip_of(FILES)
SHA256 = hashlib.sha256(ZIP).hexdigest()
ML_1M = RawFile(
    role="archive",
    candidates=(Candidate(name="ml-1m.zip", n_bytes=len(ZIP), sha256=SHA256),),
    members=MEMBERS,
)

REVIEWS = b'{"stars": 5.0}\n' * 9
YELP_TAR = tar_of({"yelp_academic_dataset_review.json": REVIEWS, "business.json": b"{}\n"})
YELP_ZIP = zip_of({"Yelp JSON/yelp_dataset.tar": YELP_TAR, "Yelp JSON/terms": b"read me"})


def yelp(role: str, *, optional: bool = False) -> RawFile:
    names = {"Yelp-JSON.zip": YELP_ZIP, "yelp_dataset.tar": YELP_TAR}
    md5 = {name: hashlib.md5(body).hexdigest() for name, body in names.items()}
    return RawFile(
        role=role,
        candidates=tuple(Candidate(name=name, md5=md5[name]) for name in names),
        members=(f"yelp_academic_dataset_{role}.json",)
        if role != "business"
        else ("business.json",),
        optional=optional,
        form="https://business.yelp.com/data",
    )


YELP = (yelp("business"), yelp("review"), yelp("user", optional=True))


def put(name: str, body: bytes) -> Path:
    path = Path(name).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def get(*files: RawFile, **options) -> dict[str, Fetched]:
    return fetch(files, **({"mirrors": (), "cache": Path("cache")} | options))


def test_what_the_room_exports_is_what_it_names() -> None:
    assert fedprep.fetch.__all__ == sorted(fedprep.fetch.__all__)
    assert all(hasattr(fedprep.fetch, name) for name in fedprep.fetch.__all__)


def test_a_mirrors_subfolders_are_searched_and_its_file_is_used_where_it_lies() -> None:
    put("mirror/movie/lens/ml-1m.zip", ZIP)
    got = get(ML_1M, mirrors=("mirror",))["archive"]
    assert (got.how, got.url, got.verified, got.sha256) == ("mirror", "", "official", SHA256)
    assert {n: (got.path / n).read_bytes() for n in MEMBERS} == {n[6:]: b for n, b in FILES.items()}
    assert list(Path("cache").rglob("*.zip")) == []


def test_the_mirrors_of_the_environment_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    put("mirror/ml-1m.zip", ZIP)
    monkeypatch.setenv("FEDPREP_MIRROR", "nowhere, mirror")
    assert fetch([ML_1M])["archive"].path.is_relative_to(cache_folder())


def test_a_mirrors_file_with_other_bytes_stops_the_build() -> None:
    path = put("mirror/ml-1m.zip", zip_of({**FILES, "more": b"?"}))
    with pytest.raises(ChecksumError) as caught:
        get(ML_1M, mirrors=("mirror",))
    message = str(caught.value)
    for part in (
        str(path),
        SHA256,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        "--allow-unverified",
    ):
        assert part in message


def test_other_bytes_are_marked_where_they_are_allowed() -> None:
    put("mirror/ml-1m.zip", zip_of({**FILES, "more": b"?"}))
    got = get(ML_1M, mirrors=("mirror",), allow_unverified=True)["archive"]
    assert (got.verified, got.how) == ("differs", "mirror")
    assert (got.path / "ratings.dat").is_file()


def test_of_several_files_of_a_name_the_official_one_is_taken() -> None:
    put("mirror/a/ml-1m.zip", b"an old one")
    right = put("mirror/b/ml-1m.zip", ZIP)
    raw = RawFile(role="archive", candidates=ML_1M.candidates)
    assert get(raw, mirrors=("mirror",))["archive"].path == right


def test_of_several_files_without_a_checksum_the_one_that_lies_as_its_url_is_taken() -> None:
    put("mirror/2014/categoryFiles/meta_Books.json.gz", b"2014")
    put("mirror/2018/metaFiles2/meta_Books.json.gz", b"2018")
    url = "https://example.org/amazon_v2/metaFiles2/meta_Books.json.gz"
    raw = RawFile(role="meta", candidates=(Candidate(name="meta_Books.json.gz", urls=(url,)),))
    got = get(raw, mirrors=("mirror",))["meta"]
    assert (got.path.read_bytes(), got.verified) == (b"2018", "no official checksum")
    assert got.sha256 == hashlib.sha256(b"2018").hexdigest()


def replaced_unseen(path: Path, data: bytes) -> None:
    """Puts other bytes of equal number in a file's place, with its time of last change."""
    status = path.stat()
    assert len(data) == status.st_size
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_other_bytes_of_equal_size_and_time_are_other_bytes() -> None:
    path = put("mirror/ml-1m.zip", ZIP)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert get(ML_1M, mirrors=("mirror",))["archive"].verified == "official"
    replaced_unseen(path, ZIP[:-1] + b"?")
    with pytest.raises(ChecksumError):
        get(ML_1M, mirrors=("mirror",))


def test_a_file_of_ones_own_that_was_replaced_unseen_has_the_digest_of_its_bytes() -> None:
    raw = RawFile(role="reviews", candidates=(Candidate(name="reviews.json.gz"),))
    path = put("mirror/reviews.json.gz", b"first")
    get(raw, mirrors=("mirror",))
    replaced_unseen(path, b"other")
    assert get(raw, mirrors=("mirror",))["reviews"].sha256 == hashlib.sha256(b"other").hexdigest()


def test_an_archive_that_was_replaced_unseen_is_unpacked_anew() -> None:
    raw = RawFile(role="archive", candidates=(Candidate(name="own.zip"),), members=("ratings.dat",))
    old, new = (zip_of({"ratings.dat": text}) for text in (b"old rows", b"new rows"))
    path = put("mirror/own.zip", old)
    first = get(raw, mirrors=("mirror",))["archive"]
    assert (first.path / "ratings.dat").read_bytes() == b"old rows"
    replaced_unseen(path, new)
    again = get(raw, mirrors=("mirror",))["archive"]
    assert (again.path / "ratings.dat").read_bytes() == b"new rows"
    assert again.sha256 == hashlib.sha256(new).hexdigest()


def test_an_unpacked_copy_that_was_changed_unseen_is_made_anew() -> None:
    raw = RawFile(role="archive", candidates=(Candidate(name="own.zip"),), members=("ratings.dat",))
    put("mirror/own.zip", zip_of({"ratings.dat": b"true rows"}))
    member = get(raw, mirrors=("mirror",))["archive"].path / "ratings.dat"
    replaced_unseen(member, b"made rows")
    assert get(raw, mirrors=("mirror",))["archive"].path / "ratings.dat" == member
    assert member.read_bytes() == b"true rows"


def test_a_single_gz_stays_as_it_is() -> None:
    path = put("mirror/reviews.json.gz", b"\x1f\x8b not looked into")
    raw = RawFile(role="reviews", candidates=(Candidate(name="reviews.json.gz"),))
    assert get(raw, mirrors=("mirror",))["reviews"].path == path


def test_by_hand_comes_before_cache_and_mirror() -> None:
    put("mirror/ml-1m.zip", b"wrong")
    given = put("hand/ml-1m.zip", ZIP)
    for by_hand in (given, given.parent, Path("hand")):
        assert get(ML_1M, by_hand=by_hand, mirrors=("mirror",))["archive"].how == "by hand"


def test_a_file_by_hand_with_other_bytes_is_refused_like_a_mirrors() -> None:
    given = put("hand/ml-1m.zip", zip_of({**FILES, "more": b"?"}))
    with pytest.raises(ChecksumError, match="allow-unverified"):
        get(ML_1M, by_hand=given)
    assert get(ML_1M, by_hand=given, allow_unverified=True)["archive"].verified == "differs"


def test_a_file_by_hand_may_have_another_name() -> None:
    got = get(ML_1M, by_hand=put("download (1).bin", ZIP))["archive"]
    assert (got.name, got.verified) == ("ml-1m.zip", "official")
    table = RawFile(role="interactions", candidates=(Candidate(name="mine.csv"),))
    own = put("other.csv", b"u,i\n")
    got = get(table, by_hand=own)["interactions"]
    assert (got.path, got.name, got.verified) == (own, "other.csv", "no official checksum")


KILLED = """
import os, signal
from pathlib import Path
from fedprep.fetch import fetch
from fedprep.schema import Candidate, RawFile
def stop(task, done, total):
    if task.startswith("unpack"):
        os.kill(os.getpid(), signal.SIGKILL)
raw = RawFile(role="r", candidates=(Candidate(name="ml-1m.zip"),), members=("ratings.dat", "users.dat"))
fetch([raw], cache=Path("cache"), mirrors=("mirror",), progress=stop)
"""


def test_an_unpacking_that_was_killed_is_done_again() -> None:
    put("mirror/ml-1m.zip", ZIP)
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == -signal.SIGKILL
    assert [p.name for p in Path("cache/unpacked").iterdir() if p.suffix == ".tmp"]
    got = get(ML_1M, mirrors=("mirror",))["archive"]
    assert {n: (got.path / n).read_bytes() for n in MEMBERS} == {n[6:]: b for n, b in FILES.items()}
    assert not [p.name for p in Path("cache/unpacked").iterdir() if p.suffix == ".tmp"]


def test_members_that_lie_unpacked_in_a_folder_are_taken() -> None:
    for name, body in FILES.items():
        put(f"hand/{name}", body)
    got = get(ML_1M, by_hand=Path("hand"))["archive"]
    assert (got.path, got.name) == (Path("hand/ml-1m").absolute(), "ml-1m")
    assert (got.verified, got.n_bytes) == ("no official checksum", sum(map(len, FILES.values())))
    again = get(ML_1M, by_hand=Path("hand/ml-1m"))["archive"]
    assert (again.path, again.sha256) == (got.path, got.sha256)
    put("hand/ml-1m/ratings.dat", b"others")
    assert get(ML_1M, by_hand=Path("hand"))["archive"].sha256 != got.sha256


def test_of_several_unpacked_folders_the_one_of_the_editions_name_is_taken() -> None:
    for edition in ("ml-1m", "ml-10m", "mine"):
        for name in MEMBERS:
            put(f"hand/{edition}/{name}", edition.encode())
    assert get(ML_1M, by_hand=Path("hand"))["archive"].path.name == "ml-1m"
    Path("hand/ml-1m").rename("hand/ml-2m")
    with pytest.raises(FetchError, match=r"3 folders hold ratings\.dat"):
        get(ML_1M, by_hand=Path("hand"))


def test_one_archive_fills_several_roles_and_is_unpacked_once() -> None:
    seen: list[str] = []
    got = get(
        *YELP,
        by_hand=put("Yelp-JSON.zip", YELP_ZIP),
        progress=lambda task, done, total: seen.append(task) if task.startswith("unpack") else None,
    )
    assert list(got) == ["business", "review"]
    assert (got["review"].path / "yelp_academic_dataset_review.json").read_bytes() == REVIEWS
    assert (got["business"].path / "business.json").is_file()
    assert {f.verified for f in got.values()} == {"official"}
    assert len(seen) == 3  # one a member, and the end


def test_a_later_candidate_will_do() -> None:
    put("mirror/yelp_dataset.tar", YELP_TAR)
    got = get(*YELP, mirrors=("mirror",))
    assert {f.name for f in got.values()} == {"yelp_dataset.tar"}


def test_unpacked_yelp_files_are_taken_from_a_folder_or_a_mirror() -> None:
    review = put("hand/yelp_academic_dataset_review.json", REVIEWS)
    put("hand/business.json", b"{}\n")
    for options in ({"by_hand": Path("hand")}, {"mirrors": ("hand",)}):
        got = get(*YELP, **options)
        assert got["review"].path.absolute() == review
        assert got["review"].sha256 == hashlib.sha256(REVIEWS).hexdigest()
        assert got["review"].verified == "no official checksum"
        assert list(got) == ["business", "review"]


def test_what_needs_a_form_says_where_it_is_and_which_flag_takes_it() -> None:
    with pytest.raises(FetchError) as caught:
        get(*YELP, mirrors=("nowhere",))
    message = str(caught.value)
    for part in ("Yelp-JSON.zip", "by hand", "https://business.yelp.com/data", "--from PATH"):
        assert part in message
    assert "mirror nowhere: no such folder" in message


def test_a_folder_by_hand_that_holds_nothing_wanted_is_refused() -> None:
    put("hand/other.txt", b"")
    with pytest.raises(
        FetchError, match=r"none of the raw files(.|\n)*hand \(1 files\)(.|\n)*ml-1m.zip"
    ):
        get(ML_1M, by_hand=Path("hand"))
    with pytest.raises(FetchError, match="there is nothing at --from"):
        get(ML_1M, by_hand=Path("nowhere"))


def test_optional_roles_are_left_out() -> None:
    photos = RawFile(role="pictures", candidates=(Candidate(name="photos.tar"),), optional=True)
    put("mirror/ml-1m.zip", ZIP)
    assert list(get(photos, ML_1M, mirrors=("mirror",))) == ["archive"]


def test_a_file_that_is_no_archive_where_one_is_wanted_is_named() -> None:
    page = put("mirror/ml-1m.zip", b"<html>Sign in</html>")
    with pytest.raises(FetchError, match=r"ml-1m.zip is no archive(.|\n)*ratings.dat"):
        get(ML_1M, mirrors=("mirror",), allow_unverified=True)
    page.write_bytes(zip_of({"other.txt": b""}))
    with pytest.raises(FetchError, match=r"holds none of the wanted files(.|\n)*ratings.dat"):
        get(ML_1M, mirrors=("mirror",), allow_unverified=True)


def test_a_recipes_own_file_is_found_by_its_path() -> None:
    own = put("data/mine.csv", b"u,i\n")
    raw = RawFile(role="interactions", candidates=(Candidate(name="data/mine.csv"),))
    assert get(raw)["interactions"].path == own
    put("elsewhere/data/mine.csv", b"x")
    assert get(raw, by_hand=Path("elsewhere"))["interactions"].path.read_bytes() == b"x"


def test_a_recipes_own_pattern_is_found_in_its_folder() -> None:
    put("data/a/mine-1.csv", b"1")
    put("data/a/mine-2.csv", b"2")
    pattern = "data/*/mine-*.csv"
    raw = RawFile(role="interactions", candidates=(Candidate(name=pattern),), members=(pattern,))
    got = get(raw)["interactions"]
    assert (got.path, got.n_bytes) == (Path("data").absolute(), 2)
    put("data/a/mine-3.csv", b"3")
    assert get(raw)["interactions"].sha256 != got.sha256
    with pytest.raises(FetchError, match="cannot be had"):
        get(replace(raw, candidates=(Candidate(name="x" * 300 + "*.csv"),)))


def test_pictures_that_lie_unpacked_are_a_folder_whose_digest_is_that_of_its_members() -> None:
    first = put("hand/photos/1.jpg", b"one")
    put("hand/photos/2.jpg", b"two")
    pictures = RawFile(
        role="pictures",
        candidates=(Candidate(name="Yelp-Photos.zip"),),
        members=("photos/*.jpg", "photos/*.jpeg"),
    )
    got = get(pictures, by_hand=Path("hand"))["pictures"]
    assert (got.path, got.n_bytes) == (Path("hand").absolute(), 6)
    assert get(pictures, by_hand=Path("hand"))["pictures"] == got
    replaced_unseen(first, b"ONE")
    assert get(pictures, by_hand=Path("hand"))["pictures"].sha256 != got.sha256


def test_names_that_no_disk_takes_are_not_had() -> None:
    long = "x" * 300
    raw = RawFile(role="interactions", candidates=(Candidate(name=long),))
    with pytest.raises(FetchError, match="cannot be had"):
        get(raw, mirrors=(long,))
    with pytest.raises(FetchError, match="there is nothing at --from"):
        get(raw, by_hand=Path(long))


def test_a_cache_that_cannot_be_written_to_is_no_obstacle_where_nothing_is_written() -> None:
    put("mirror/reviews.json.gz", b"x")
    os.utime("mirror/reviews.json.gz", (1, 1))
    raw = RawFile(role="reviews", candidates=(Candidate(name="reviews.json.gz"),))
    put("cache", b"a file")
    assert get(raw, mirrors=("mirror",))["reviews"].how == "mirror"


def test_fetching_from_a_mirror_loads_no_network_library() -> None:
    code = (
        "import sys; from fedprep.fetch import fetch;"
        "from fedprep.schema import Candidate, RawFile;"
        "fetch([RawFile(role='r', candidates=(Candidate(name='a'),))], mirrors=('.',));"
        "sys.exit(' '.join({'httpx', 'ssl', 'asyncio', 'torch'} & set(sys.modules)) or 0)"
    )
    put("a", b"")
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.realdata
def test_the_real_ml_1m_is_official(mirror: Path) -> None:
    candidate = Candidate(
        name="ml-1m.zip",
        n_bytes=5_917_549,
        md5="c4d9eecfca2ab87c1945afe126590906",
        sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    )
    raw = RawFile(role="archive", candidates=(candidate,), members=MEMBERS)
    got = get(raw, mirrors=(str(mirror),))["archive"]
    assert (got.verified, got.how, got.n_bytes) == ("official", "mirror", 5_917_549)
    sizes = {name: (got.path / name).stat().st_size for name in MEMBERS}
    assert sizes == {"ratings.dat": 24_594_131, "movies.dat": 171_308, "users.dat": 134_368}

"""Downloads: resumed, retried, checked on the way; one writer a file; a kill loses nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from fetch_server import RawServer, cut_after, running, slowly, status, whole_anyway

from fedprep.errors import ChecksumError, FetchError, OutputError
from fedprep.fetch import Fetched, downloads, fetch, parts, servers, store
from fedprep.network import NotPublic
from fedprep.schema import Candidate, RawFile

BODY = np.random.default_rng(0).bytes(3 << 20)
OTHER = np.random.default_rng(1).bytes(3 << 20)
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()
NAME = "reviews.json.gz"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    quick = downloads.Patience(first_wait=0.001, longest_wait=0.002, timeout=5)
    monkeypatch.setattr(servers, "PATIENCE", quick)
    with running() as site:
        yield site


def get(*urls: str, sha256: str = SHA256, n_bytes: int = 0, md5: str = "", **options) -> Fetched:
    candidate = Candidate(name=NAME, urls=urls, sha256=sha256, md5=md5, n_bytes=n_bytes)
    raw = RawFile(role="reviews", candidates=(candidate,))
    return fetch([raw], cache=Path("cache"), **({"mirrors": ()} | options))["reviews"]


def leftovers() -> list[str]:
    """Files in the cache beside the file and its record; the locks are in a folder of their own."""
    known = (NAME, f"{NAME}.json")
    files = (p for p in Path("cache").rglob("*") if p.is_file() and p.parent.name != "locks")
    return sorted(p.name for p in files if p.name not in known)


def test_a_download_is_checked_and_recorded(server: RawServer) -> None:
    seen: list[tuple[str, int, int | None]] = []
    url = server.serve("a/b.gz", BODY)
    got = get(url, n_bytes=len(BODY), progress=lambda *step: seen.append(step))
    assert got.path.read_bytes() == BODY
    assert (got.name, got.url, got.how) == (NAME, url, "download")
    assert (got.sha256, got.n_bytes, got.verified) == (SHA256, len(BODY), "official")
    assert seen[-1] == (f"download {NAME}", len(BODY), len(BODY))
    assert leftovers() == []


def test_a_second_fetch_asks_nobody(server: RawServer) -> None:
    url = server.serve("b.gz", BODY)
    first = get(url)
    second = get(url)
    assert (second.how, second.url, second.path) == ("cache", url, first.path)
    assert len(server.asked) == 1


def test_a_cached_file_that_was_changed_unseen_is_fetched_again(server: RawServer) -> None:
    url = server.serve("b.gz", BODY)
    path = get(url).path
    status = path.stat()
    path.write_bytes(BODY[:-1] + b"?")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert get(url).path.read_bytes() == BODY
    assert len(server.asked) == 2


def test_a_cached_file_that_was_changed_is_fetched_again(server: RawServer) -> None:
    url = server.serve("b.gz", BODY)
    path = get(url).path
    path.write_bytes(BODY[:-1] + b"?")
    assert get(url).path.read_bytes() == BODY
    assert len(server.asked) == 2


def test_a_cached_file_that_was_touched_is_read_again_but_not_fetched(server: RawServer) -> None:
    url = server.serve("b.gz", BODY)
    os.utime(get(url).path, (1, 1))
    assert get(url).how == "cache"
    assert len(server.asked) == 1


def test_a_cut_connection_is_resumed_where_it_broke(server: RawServer) -> None:
    url = server.serve("b.gz", BODY, cut_after(1_000_000), cut_after(500_000))
    assert get(url).path.read_bytes() == BODY
    asked = server.ranges_asked("b.gz")
    assert [int(r[6:-1]) > 0 for r in asked[1:]] == [True, True]
    assert int(asked[2][6:-1]) > int(asked[1][6:-1])


def test_a_broken_download_is_resumed_by_the_next_run(server: RawServer) -> None:
    url = server.serve("b.gz", BODY, cut_after(1_500_000), *[status(503)] * 9)
    with pytest.raises(FetchError, match=r"HTTP 503 Service Unavailable \(tried 5 times\)"):
        get(url)
    assert leftovers() == [f"{NAME}.part", f"{NAME}.part.json"]
    server.faults["b.gz"].clear()
    assert get(url).path.read_bytes() == BODY
    assert int(server.asked[-1][1][6:-1]) > 1_000_000
    assert leftovers() == []


def test_a_server_that_ignores_range_starts_over(server: RawServer) -> None:
    url = server.serve("b.gz", BODY, cut_after(1_000_000), whole_anyway)
    assert get(url).path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ETag": '"1"'}, {"ETag": '"2"'}),
        ({"ETag": 'W/"1"'}, {"ETag": 'W/"2"'}),
        ({"Last-Modified": "Mon"}, {"Last-Modified": "Tue"}),
    ],
)
def test_a_file_that_changed_on_the_server_is_never_mixed(
    server: RawServer, before: dict[str, str], after: dict[str, str]
) -> None:
    server.headers = before
    url = server.serve("b.gz", BODY, cut_after(1_000_000), status(404))
    with pytest.raises(FetchError):
        get(url, sha256="")
    server.headers = after
    server.serve("b.gz", OTHER)
    got = get(url, sha256="")
    assert int(server.asked[2][1][6:-1]) > 0
    assert got.path.read_bytes() == OTHER
    assert got.verified == "no official checksum"


def test_bytes_mixed_from_two_versions_are_fetched_anew(server: RawServer) -> None:
    server.headers = {}  # nothing but the size tells versions apart
    server.serve("b.gz", OTHER, cut_after(1_000_000), status(404))
    url = f"{server.address}/b.gz"
    with pytest.raises(FetchError):
        get(url)
    server.serve("b.gz", BODY)
    assert get(url).path.read_bytes() == BODY
    assert [bool(asked) for asked in server.ranges_asked("b.gz")][-2:] == [True, False]


def test_a_part_is_continued_from_another_url_where_a_checksum_judges(server: RawServer) -> None:
    first = server.serve("one/b.gz", BODY, cut_after(2_000_000), status(404))
    second = server.serve("two/b.gz", BODY)
    got = get(first, second)
    assert (got.path.read_bytes(), got.url) == (BODY, second)
    assert int(server.ranges_asked("two/b.gz")[0][6:-1]) > 1_000_000


def test_without_a_checksum_a_part_is_not_continued_from_another_url(server: RawServer) -> None:
    first = server.serve("one/b.gz", OTHER, cut_after(2_000_000), status(404))
    second = server.serve("two/b.gz", BODY)
    assert get(first, second, sha256="").path.read_bytes() == BODY
    assert server.ranges_asked("two/b.gz") == [""]


def test_a_dead_url_leaves_the_part_of_another_alone(server: RawServer) -> None:
    dead = f"{server.address}/nowhere"
    url = server.serve("b.gz", BODY, cut_after(2_000_000), status(404))
    with pytest.raises(FetchError):
        get(url, dead, sha256="")
    assert get(url, dead, sha256="").path.read_bytes() == BODY
    assert int(server.asked[-1][1][6:-1]) > 1_000_000


def test_a_busy_server_is_waited_for_as_long_as_it_asks(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    url = server.serve(
        "b.gz", BODY, status(503), status(429, Retry_After="7"), status(500), status(502)
    )
    assert get(url).path.read_bytes() == BODY
    assert waits[1] == 7.0
    assert len(waits) == 4


def test_waits_double_up_to_a_limit_with_jitter() -> None:
    patience = downloads.Patience(first_wait=1.0, longest_wait=8.0)
    for failures, middle in enumerate([1, 2, 4, 8, 8, 8], start=1):
        waits = [patience.wait(failures, 0.0) for _ in range(50)]
        assert 0.5 * middle <= min(waits) < max(waits) <= 1.5 * middle
    assert patience.wait(1, 60.0) == 60.0


def test_a_server_that_asks_for_an_hour_is_given_up(server: RawServer) -> None:
    later = formatdate(time.time() + 3600, usegmt=True)
    url = server.serve("b.gz", BODY, status(503, Retry_After=later))
    other = server.serve("c.gz", BODY)
    assert get(url, other).url == other
    assert len(server.ranges_asked("b.gz")) == 1


def test_a_missing_file_is_not_asked_for_twice(server: RawServer) -> None:
    with pytest.raises(FetchError, match="HTTP 404 Not Found"):
        get(f"{server.address}/nowhere")
    assert len(server.asked) == 1


def test_no_network_names_every_place_and_the_ways_out(tmp_path: Path, server: RawServer) -> None:
    dead = "http://127.0.0.1:9/b.gz"
    with pytest.raises(FetchError) as caught:
        get(dead, f"{server.address}/b.gz", mirrors=(str(tmp_path), "nowhere"))
    message = str(caught.value)
    assert not isinstance(caught.value, ChecksumError)
    for part in (
        f"{NAME} cannot be had", f"mirror {tmp_path}: has no such file", "mirror nowhere: no such folder",
        f"{dead}: no connection", "b.gz: HTTP 404", "FEDPREP_MIRROR", "--from PATH", "--from synthetic",
    ):  # fmt: skip
        assert part in message


def test_wrong_bytes_lead_to_the_next_url(server: RawServer) -> None:
    wrong, right = server.serve("wrong", OTHER), server.serve("right", BODY)
    assert get(wrong, right).url == right


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ({"sha256": SHA256}, f"sha256 {hashlib.sha256(OTHER).hexdigest()}"),
        ({"sha256": "", "md5": MD5}, f"md5 {hashlib.md5(OTHER).hexdigest()}"),
        ({"sha256": "", "n_bytes": 7}, f"{len(OTHER):,} bytes"),
    ],
)
def test_wrong_bytes_everywhere_name_got_and_expected(
    server: RawServer, expected: dict[str, str], got: str
) -> None:
    url = server.serve("wrong", OTHER)
    with pytest.raises(ChecksumError) as caught:
        get(url, url, **expected)
    assert got in str(caught.value)
    assert "--allow-unverified" in str(caught.value)
    assert leftovers() == []


def test_an_md5_is_enough_to_be_official(server: RawServer) -> None:
    got = get(server.serve("b", BODY), sha256="", md5=MD5)
    assert (got.verified, got.sha256) == ("official", SHA256)


def test_a_size_alone_can_refuse_but_not_verify(server: RawServer) -> None:
    got = get(server.serve("b", BODY), sha256="", n_bytes=len(BODY))
    assert got.verified == "no official checksum"


def test_other_bytes_are_taken_only_where_they_are_allowed(server: RawServer) -> None:
    first, second = server.serve("one", OTHER), server.serve("two", OTHER[:100])
    got = get(first, second, n_bytes=len(BODY), allow_unverified=True)
    assert (got.verified, got.path.read_bytes(), got.url) == ("differs", OTHER, first)
    assert get(first, second, allow_unverified=True).how == "cache"
    with pytest.raises(ChecksumError):
        get(first, second)


def test_the_official_bytes_are_preferred_to_others_that_are_allowed(server: RawServer) -> None:
    wrong, right = server.serve("wrong", OTHER), server.serve("right", BODY)
    assert get(wrong, right, allow_unverified=True).verified == "official"


def test_a_web_page_in_place_of_the_file_is_refused(server: RawServer) -> None:
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    url = server.serve("b", b"  <!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(FetchError, match="answers with a web page"):
        get(url, sha256="")


def test_gz_bytes_that_a_server_calls_an_encoding_stay_as_they_are(server: RawServer) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    assert get(server.serve("b", BODY)).path.read_bytes() == BODY


def test_a_full_disk_is_named_with_numbers_before_the_download(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 4, 5))
    with pytest.raises(OutputError, match="3,145,728 bytes are needed, 5 are free"):
        get(server.serve("b", BODY))


def test_a_disk_that_fills_up_on_the_way_keeps_what_has_arrived(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, room = parts.Part.append, [1_000_000]

    def until_full(part: parts.Part, file, chunk: bytes) -> None:
        if part.size > room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(part, file, chunk)

    monkeypatch.setattr(parts.Part, "append", until_full)
    url = server.serve("b", BODY)
    with pytest.raises(OutputError, match=rf"no space left for {NAME}: [\d,]+ bytes free"):
        get(url)
    room[0] = len(BODY)
    assert get(url).path.read_bytes() == BODY
    assert int(server.asked[-1][1][6:-1]) >= 1_000_000


def test_a_cache_that_cannot_be_written_to_is_named(server: RawServer) -> None:
    Path("cache").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="cannot be written"):
        get(server.serve("b", BODY))


def test_proxy_settings_that_cannot_be_used_are_named(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://nonsense")
    with pytest.raises(FetchError, match="network settings cannot be used"):
        get(server.serve("b", BODY))


SCRIPT = """
import sys
from pathlib import Path
from fedprep.fetch import fetch
from fedprep.schema import Candidate, RawFile
raw = RawFile(role="r", candidates=(Candidate(name=sys.argv[1], urls=(sys.argv[2],), sha256=sys.argv[3]),))
tell = lambda task, done, total: print(task, flush=True) if done == 0 else None
print(fetch([raw], cache=Path("cache"), mirrors=(), progress=tell)["r"].how)
"""


def start(url: str) -> subprocess.Popen[str]:
    """Starts a fetch in another process; it prints how the file was had, and first if it waits."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, NAME, url, SHA256], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_download_is_resumed_to_the_same_bytes(server: RawServer) -> None:
    url = server.serve("b", BODY, slowly(20, first=2 << 20))
    with start(url) as process:
        deadline = time.monotonic() + 60
        while sum(p.stat().st_size for p in Path("cache").rglob("*.part")) < 1 << 20:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    got = get(url)
    assert got.path.read_bytes() == BODY
    assert int(server.asked[-1][1][6:-1]) >= 1 << 20
    assert leftovers() == []


def test_two_processes_download_a_file_once(server: RawServer) -> None:
    url = server.serve("b", BODY)
    path = store.place_of(Candidate(name=NAME, sha256=SHA256), Path("cache"))
    with store.alone(path):
        both = [start(url), start(url)]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == f"wait for {NAME}\n"
        assert server.asked == []
    hows = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert hows == ["cache", "download"]
    assert len(server.asked) == 1


def test_a_url_mirror_is_asked_before_the_files_own_url(server: RawServer) -> None:
    server.serve(f"raw/{NAME}", BODY)
    own = server.serve("own", BODY)
    got = get(own, mirrors=(f"{server.address}/raw",))
    assert (got.how, got.url, got.verified) == ("mirror", "", "official")
    assert server.ranges_asked("own") == []


def test_the_subfolders_of_a_url_mirror_are_searched_through_its_index_pages(
    server: RawServer,
) -> None:
    server.index_pages = True
    server.serve(f"raw/deep/er/{NAME}", BODY)
    server.serve("raw/other.txt", b"")
    got = get("http://127.0.0.1:9/b", mirrors=(f"{server.address}/raw/",))
    assert (got.how, got.path.read_bytes()) == ("mirror", BODY)


def test_a_url_mirror_without_the_file_is_no_obstacle(server: RawServer) -> None:
    own = server.serve("own", BODY)
    assert get(own, mirrors=(f"{server.address}/raw", "http://127.0.0.1:9")).url == own


@pytest.mark.parametrize(("source_is_public", "arrives"), [(True, False), (False, True)])
def test_a_public_server_may_not_send_on_to_an_inner_address(
    server: RawServer, monkeypatch: pytest.MonkeyPatch, source_is_public: bool, arrives: bool
) -> None:
    """One of one's own network, which somebody named as a mirror, may."""

    def look_up(host: str, port: int) -> str:
        if host == "127.0.0.1" and source_is_public:
            return host
        raise NotPublic(f"{host} is at 127.0.0.1, which is no public address")

    monkeypatch.setattr("fedprep.network.checked_address", look_up)
    inner = server.serve("inner.gz", BODY).replace("127.0.0.1", "localhost")
    url = server.serve("b.gz", BODY, status(302, Location=inner))
    if arrives:
        assert get(url).path.read_bytes() == BODY
    else:
        with pytest.raises(FetchError, match="no public address"):
            get(url)
        assert "inner.gz" not in [path for path, _ in server.asked]

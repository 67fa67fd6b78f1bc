"""Pictures: which is an item's, read from folders, zips and URLs, decoded whatever the bytes."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedprep.embed.ahead import ahead
from fedprep.embed.decode import (
    DAMAGED,
    MAX_RATIO,
    MAX_SIDE,
    NO_PICTURE,
    TOO_MANY_PIXELS,
    TOO_NARROW,
    TOO_SMALL,
    UnusablePicture,
    decode,
    looks_like_a_picture,
    quiet_pillow,
)
from fedprep.embed.downloads import (
    NO_ADDRESS,
    NOT_FOUND,
    NOT_PUBLIC,
    TOO_MANY_REDIRECTS,
    UNREACHABLE,
    UrlStore,
)
from fedprep.embed.pictures import (
    TOO_MANY_BYTES,
    UNREADABLE,
    FolderStore,
    ZipStore,
    match_pictures,
    open_store,
)
from fedprep.errors import OutputError, SourceError
from fedprep.network import is_public

LIMIT = 1_000_000


def picture(
    seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (20, 12), **options: Any
) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels), kind, **options)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def items(*rows: tuple[str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows), schema={"source_id": pl.String, "image": pl.String}, orient="row"
    )


def reason_of(data: bytes) -> str:
    with pytest.raises(UnusablePicture) as caught:
        decode(data)
    return caught.value.reason


# --- which picture is an item's ----------------------------------------------------------------------


def matched(rows: pl.DataFrame, names: list[str]) -> list[str | None]:
    return match_pictures(rows, names)[0].to_list()


def test_a_path_is_taken_before_a_name() -> None:
    names = ["1.jpg", "2.jpg", "else/x.png"]
    rows = items(("1", "else/x.png"), ("2", None), ("3", None), ("1", "gone.png"))
    assert matched(rows, names) == ["else/x.png", "2.jpg", None, "1.jpg"]


def test_ids_are_cut_at_the_last_dot() -> None:
    names = ["B00.1.jpg", "B00.2.jpg", "B00.jpg"]
    rows = items(("B00.1", None), ("B00.2", None), ("B00", None), ("B00.3", None))
    assert matched(rows, names) == ["B00.1.jpg", "B00.2.jpg", "B00.jpg", None]


def test_case_matters_in_ids_and_not_in_suffixes() -> None:
    assert matched(items(("ab", None), ("AB", None)), ["AB.JPG", "Ab.jpg"]) == [None, "AB.JPG"]


def test_other_files_are_no_pictures_by_name() -> None:
    names = ["7.txt", "7.jpg.part", "7", "__MACOSX/._7.jpg"]
    assert matched(items(("7", None)), names) == [None]


def test_several_files_of_one_item_are_chosen_in_order_and_counted() -> None:
    names = ["a/deep/7.jpg", "a/7.png", "a/7.jpg", "8.gif", "9.jpg", "9.png"]
    found, steps = match_pictures(items(("7", None), ("8", None), ("9", "9.png")), names)
    assert found.to_list() == ["a/7.jpg", "8.gif", "9.png"]
    assert [(s.rows_in, s.rows_out, s.unit, s.examples) for s in steps] == [
        (3, 1, "images", ("item 7",))
    ]
    assert match_pictures(items(("7", None)), names[::-1])[0].to_list() == ["a/7.jpg"]


def test_a_common_folder_on_either_side_does_not_matter() -> None:
    rows = items(("x", "photos/a.jpg"), ("y", "./photos/b.jpg"))
    assert matched(rows, ["photos/a.jpg", "photos/b.jpg"]) == ["photos/a.jpg", "photos/b.jpg"]
    assert matched(rows, ["a.jpg", "b.jpg"]) == ["a.jpg", "b.jpg"]
    deep = ["yelp/photos/a.jpg", "yelp/photos/b.jpg"]
    assert matched(rows, deep) == deep
    different = items(("x", "p/a.jpg"), ("y", "q/a.jpg"))
    assert matched(different, ["a.jpg"]) == [None, None]


def test_a_url_is_no_path() -> None:
    assert matched(items(("5", "http://h/1.jpg")), ["1.jpg", "http://h/1.jpg"]) == [None]


def test_an_empty_store_has_no_picture() -> None:
    assert matched(items(("5", "a.jpg")), []) == [None]


# --- stores ------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "zip", "stored zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FolderStore | ZipStore]:
    """A store of a/1.png … a/40.png and one large file."""
    files = {f"a/{i}.png": picture(i) for i in range(1, 41)} | {"large.bin": bytes(LIMIT + 1)}
    if request.param == "folder":
        path = tmp_path / "pictures"
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    else:
        path = tmp_path / "no suffix"
        method = zipfile.ZIP_STORED if request.param == "stored zip" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as file:
            file.mkdir("empty")
            for name, data in files.items():
                file.writestr(name, data)
    opened = open_store(path, max_bytes=LIMIT)
    yield opened
    opened.close()


def test_folder_and_zip_give_the_same_bytes_to_many_threads(store: FolderStore | ZipStore) -> None:
    names = store.names()
    assert names == sorted([f"a/{i}.png" for i in range(1, 41)] + ["large.bin"])
    wanted = [f"a/{i}.png" for i in range(1, 41)] * 5
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(store.read, wanted))
    assert got == [picture(i) for i in range(1, 41)] * 5


def test_a_picture_over_the_limit_is_not_read(store: FolderStore | ZipStore) -> None:
    with pytest.raises(UnusablePicture, match="max_bytes"):
        store.read("large.bin")


def test_names_that_leave_the_zip_are_only_keys(tmp_path: Path) -> None:
    path = tmp_path / "inner" / "evil.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../7.png", picture())
    opened = open_store(path, max_bytes=LIMIT)
    found, _ = match_pictures(items(("7", None)), opened.names())
    assert opened.read(found[0]) == picture()
    opened.close()
    assert [p.name for p in tmp_path.rglob("*.png")] == []


def test_a_damaged_member_costs_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", method) as file:
            file.writestr("1.bmp", picture(1, "BMP"))
            file.writestr("2.bmp", picture(2, "BMP"))
        data = bytearray(path.read_bytes())
        data[200:210] = bytes(10)
        path.write_bytes(data)
        opened = open_store(path, max_bytes=LIMIT)
        with pytest.raises(UnusablePicture, match=DAMAGED):
            opened.read("1.bmp")
        assert opened.read("2.bmp") == picture(2, "BMP")
        opened.close()


def test_a_zip_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1.png", bytes(20_000_000))
    data = path.read_bytes()
    path.write_bytes(data.replace((20_000_000).to_bytes(4, "little"), (500).to_bytes(4, "little")))
    opened = open_store(path, max_bytes=LIMIT)
    with pytest.raises(UnusablePicture):
        opened.read("1.png")
    opened.close()


def test_a_file_that_vanished_costs_one_picture(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture())
    opened = open_store(tmp_path, max_bytes=LIMIT)
    (tmp_path / "1.png").unlink()
    with pytest.raises(UnusablePicture, match=UNREADABLE):
        opened.read("1.png")


@pytest.mark.parametrize("kind", ["missing", "text", "cut zip"])
def test_a_store_that_is_none_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "store.zip"
    if kind == "text":
        path.write_text("no zip")
    elif kind == "cut zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("1.png", picture())
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SourceError, match=r"store\.zip"):
        open_store(path, max_bytes=LIMIT)


# --- decoding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_usual_formats_become_rgb(kind: str) -> None:
    data = picture(3, kind)
    assert looks_like_a_picture(data)
    image = decode(data)
    assert (image.mode, image.size) == ("RGB", (20, 12))


def test_transparent_pixels_are_white() -> None:
    layer = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    layer.putpixel((1, 1), (0, 0, 255, 255))
    layer.putpixel((2, 2), (0, 0, 0, 128))
    for image in (decode(saved(layer)), decode(saved(layer, "WEBP", lossless=True))):
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert image.getpixel((1, 1)) == (0, 0, 255)
        assert image.getpixel((2, 2)) == (127, 127, 127)
    palette = Image.new("P", (4, 4))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    image = decode(saved(palette, transparency=1))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]
    grey = Image.new("LA", (4, 4), (0, 0))
    assert decode(saved(grey)).getpixel((0, 0)) == (255, 255, 255)


def test_grey_of_sixteen_bits_keeps_its_shades() -> None:
    ramp = np.linspace(0, 65_535, 5).astype(np.uint16).reshape(1, 5).repeat(5, axis=0)
    for kind in ("PNG", "TIFF"):
        image = decode(saved(Image.fromarray(ramp), kind))
        assert [image.getpixel((x, 0)) for x in range(5)] == [
            (v, v, v) for v in (0, 64, 127, 191, 255)
        ]
    floats = Image.fromarray(np.array([[0.0, 0.5, 1.0, 1.0]] * 4, np.float32))
    assert [decode(saved(floats, "TIFF")).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_cmyk_becomes_rgb() -> None:
    image = decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = image.getpixel((4, 4))
    assert red > 240
    assert max(green, blue) < 15


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        red, green, _ = decode(data).getpixel((3, 3))
        assert (red > 240, green < 15) == (True, True)


def test_orientation_is_honoured_and_damaged_exif_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(picture(1, "JPEG", exif=exif)).size == (12, 20)
    broken = b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x07" * 20
    with quiet_pillow():
        assert decode(picture(1, "JPEG", exif=broken)).size == (20, 12)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_truncated_picture_is_damaged(kind: str) -> None:
    data = picture(5, kind, size=(200, 150))
    assert reason_of(data[: len(data) // 2]) == DAMAGED
    assert reason_of(data[:20]) == DAMAGED


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"%PDF-1.4", b"GI", b"\0" * 50])
def test_other_content_is_no_picture(data: bytes) -> None:
    assert reason_of(data) == NO_PICTURE


def png_that_claims(width: int, height: int) -> bytes:
    data = bytearray(picture(1, "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("size", [(50_000, 10), (10, 50_000), (9_000, 9_000), (20_000, 20_000)])
def test_too_large_a_picture_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    start = time.process_time()
    with quiet_pillow():
        assert reason_of(png_that_claims(*size)) == TOO_MANY_PIXELS
    assert time.process_time() - start < 0.5


def test_a_bomb_is_refused_where_warnings_are_errors() -> None:
    assert reason_of(png_that_claims(9_900, 9_900)) == TOO_MANY_PIXELS  # Pillow warns of this size


def test_the_widest_allowed_picture_is_decoded() -> None:
    size = (MAX_SIDE, MAX_SIDE // MAX_RATIO)
    assert decode(saved(Image.new("L", size))).size == size


def test_placeholders_and_strips_are_refused() -> None:
    assert reason_of(picture(size=(1, 1))) == TOO_SMALL
    assert reason_of(picture(size=(300, 5))) == TOO_NARROW


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]),
    cut=st.floats(0.1, 1.0),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
)
def test_whatever_the_bytes_there_is_a_picture_or_a_reason(
    kind: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    data = bytearray(picture(2, kind))
    for place, value in flips:
        data[int(place * len(data))] = value
    with quiet_pillow():
        try:
            image = decode(bytes(data[: int(cut * len(data))]))
        except UnusablePicture as failure:
            assert failure.reason in (DAMAGED, NO_PICTURE, TOO_MANY_PIXELS, TOO_NARROW, TOO_SMALL)
        else:
            assert image.mode == "RGB"


# --- work ahead --------------------------------------------------------------------------------------


def test_work_done_ahead_comes_in_order_and_is_bounded() -> None:
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        time.sleep(0.002 * (i % 3))
        return i * i

    with ahead(work, range(50), threads=4, depth=6) as results:
        assert next(results) == 0
        time.sleep(0.05)
        assert len(begun) == 6
        assert list(results) == [i * i for i in range(1, 50)]


def test_work_done_ahead_raises_in_its_turn() -> None:
    with ahead(lambda i: 1 // (3 - i), range(10), threads=2, depth=4) as results:
        assert [next(results) for _ in range(3)] == [0, 0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_work_ahead_that_is_closed_begins_nothing_more() -> None:
    begun: list[int] = []
    with ahead(begun.append, range(1000), threads=2, depth=4) as results:
        next(results)
    n = len(begun)
    time.sleep(0.02)
    assert len(begun) == n <= 5


# --- URLs --------------------------------------------------------------------------------------------


class Server:
    """A server of pictures on this machine: paths ask for what it shall do."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.times: list[float] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{path}"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.lstrip("/")
        self.asked[name] += 1
        self.times.append(time.monotonic())
        word, _, rest = name.partition("-")
        if word == "redirect":
            self.send(request, 302, b"", location=rest)
        elif word == "busy" and self.asked[name] <= int(rest):
            self.send(request, 503, b"")
        elif word == "wait" and self.asked[name] == 1:
            self.send(request, 429, b"", retry_after="1")
        elif word == "status":
            self.send(request, int(rest), b"sorry")
        elif word == "html":
            self.send(request, 200, b"<html>nothing here</html>")
        elif word == "large":
            self.send(request, 200, picture(1, "BMP", size=(800, 800)))
        elif word == "loop":
            self.send(request, 302, b"", location=self.url(f"loop-{int(rest) + 1}"))
        elif word == "moved":
            self.send(request, 301, b"", location=self.url("ok-1"))
        elif word == "file":
            self.send(request, 302, b"", location="file:///etc/hostname")
        elif word == "cut":
            self.send(request, 200, picture(1)[:50], content_length=str(len(picture(1))))
        else:
            self.send(request, 200, picture(int(rest)))

    @staticmethod
    def send(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
        request.send_response(status)
        headers.setdefault("content_length", str(len(body)))
        for key, value in headers.items():
            request.send_header(key.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def url_store(folder: Path, **settings: Any) -> UrlStore:
    return UrlStore(
        folder,
        **(
            {
                "max_bytes": LIMIT,
                "per_second": 10_000.0,
                "backoff": 0.005,
                "allow_hosts": ["127.0.0.1", "localhost"],
            }
            | settings
        ),
    )


def reason_of_url(store: UrlStore, url: str) -> str:
    with pytest.raises(UnusablePicture) as caught:
        store.read(url)
    return caught.value.reason


def test_pictures_are_fetched_once(server: Server, tmp_path: Path) -> None:
    urls = [server.url(f"ok-{i}") for i in range(30)]
    shown: list[tuple[int, int | None]] = []
    store = url_store(tmp_path)
    store.fetch(urls, progress=lambda _, done, total: shown.append((done, total)))
    assert [store.read(url) for url in urls] == [picture(i) for i in range(30)]
    assert shown[0] == (0, 30)
    assert shown[-1] == (30, 30)
    again = url_store(tmp_path)
    again.fetch([*urls, server.url("ok-30")])
    assert again.read(server.url("ok-30")) == picture(30)
    assert set(server.asked.values()) == {1}
    digest = hashlib.sha256(urls[0].encode()).hexdigest()
    assert (tmp_path / digest[:2] / digest).read_bytes() == picture(0)


def inner_urls(port: int) -> list[str]:
    hosts = (
        "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1",
        "0177.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "[fe80::1]", "[fc00::1]",
        "100.64.0.1", "224.0.0.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "255.255.255.255",
    )  # fmt: skip
    return [f"http://{host}:{port}/ok-1" for host in hosts]


def test_addresses_that_are_not_public_are_never_asked(server: Server, tmp_path: Path) -> None:
    urls = inner_urls(server.http.server_port)
    store = url_store(tmp_path, allow_hosts=[])
    store.fetch(urls)
    assert {reason_of_url(store, url) for url in urls} <= {NOT_PUBLIC, NO_ADDRESS, UNREACHABLE}
    assert reason_of_url(store, urls[0]) == NOT_PUBLIC
    assert not server.asked


def test_a_redirect_to_an_inner_address_is_refused_like_the_address(
    server: Server, tmp_path: Path
) -> None:
    """The first host may be asked, the one that it leads to may not."""
    port = server.http.server_port
    url = server.url(f"redirect-http://localhost:{port}/ok-1")
    store = url_store(tmp_path, allow_hosts=["127.0.0.1"])
    store.fetch([url])
    assert reason_of_url(store, url) == NOT_PUBLIC
    assert [path for path in server.asked if "redirect" not in path] == []
    allowed = url_store(tmp_path, allow_hosts=["127.0.0.1", f"localhost:{port}"])
    allowed.fetch([url])
    assert allowed.read(url) == picture(1)


def test_a_host_is_looked_up_once_and_asked_where_it_was_found(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is checked and inner when it is asked would pass a check by name."""
    port, looked_up, asked = server.http.server_port, [], []

    def look_up(host: str, port: int, **options: Any) -> list[Any]:
        looked_up.append(host)
        address = "93.184.216.34" if len(looked_up) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(self: Any, request: Any) -> Any:
        asked.append(
            (request.url.host, request.headers["host"], request.extensions["sni_hostname"])
        )
        raise httpx.ConnectError("nobody is there", request=request)

    monkeypatch.setattr("fedprep.network.socket.getaddrinfo", look_up)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", connect)
    store = url_store(tmp_path, allow_hosts=[], backoff=0.0)
    store.fetch([f"http://rebind.example:{port}/ok-1"])
    assert asked[0] == ("93.184.216.34", f"rebind.example:{port}", "rebind.example")
    assert len(asked) == 1 and not server.asked  # the second look-up gave an inner address


def test_behind_a_proxy_what_is_written_as_an_address_is_checked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.http.server_port}")
    monkeypatch.setenv("NO_PROXY", "")
    store = url_store(tmp_path, allow_hosts=[])
    urls = inner_urls(80)
    store.fetch(urls)
    assert {reason_of_url(store, url) for url in urls} <= {NOT_PUBLIC, NO_ADDRESS}
    assert not server.asked


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_failures_have_reasons_and_are_remembered(server: Server, tmp_path: Path) -> None:
    expected = {
        server.url("status-404"): NOT_FOUND,
        server.url("status-400"): NOT_FOUND,
        server.url("html-1"): NO_PICTURE,
        server.url("large-1"): TOO_MANY_BYTES,
        server.url("loop-0"): TOO_MANY_REDIRECTS,
        server.url("file-0"): NO_ADDRESS,
        server.url("status-500"): UNREACHABLE,
        server.url("cut-0"): UNREACHABLE,
        "ftp://127.0.0.1/1.jpg": NO_ADDRESS,
        "file:///etc/hostname": NO_ADDRESS,
        "http://": NO_ADDRESS,
        "http://[broken/": NO_ADDRESS,
        "//no/scheme.jpg": NO_ADDRESS,
        "http://127.0.0.1:1/closed.jpg": UNREACHABLE,
    }
    store = url_store(tmp_path)
    store.fetch(list(expected))
    assert {url: reason_of_url(store, url) for url in expected} == expected
    assert server.asked["status-500"] == server.asked["cut-0"] == 4
    asked = server.asked.total()
    again = url_store(tmp_path)
    again.fetch(list(expected))
    assert server.asked.total() == asked
    assert {url: reason_of_url(again, url) for url in expected} == expected


def test_a_larger_limit_and_an_old_note_are_tried_again(server: Server, tmp_path: Path) -> None:
    large, gone = server.url("large-1"), server.url("status-404")
    url_store(tmp_path).fetch([large, gone])
    for note in tmp_path.rglob("*.failed"):
        text = json.loads(note.read_text())
        if text["reason"] == NOT_FOUND:
            note.write_text(json.dumps(text | {"at": time.time() - 8 * 86_400}))
    store = url_store(tmp_path, max_bytes=10 * LIMIT)
    store.fetch([large, gone])
    assert len(store.read(large)) > LIMIT
    assert server.asked["status-404"] == 2
    with pytest.raises(UnusablePicture, match="max_bytes"):
        url_store(tmp_path).read(large)


def test_a_damaged_note_is_tried_again(server: Server, tmp_path: Path) -> None:
    url_store(tmp_path).fetch([server.url("status-404")])
    for note in tmp_path.rglob("*.failed"):
        note.write_text("{")
    url_store(tmp_path).fetch([server.url("status-404")])
    assert server.asked["status-404"] == 2


def test_a_busy_server_is_asked_again_and_waited_for(server: Server, tmp_path: Path) -> None:
    urls = [server.url("busy-3"), server.url("wait-9"), server.url("moved-1")]
    store = url_store(tmp_path)
    begin = time.monotonic()
    store.fetch(urls)
    assert time.monotonic() - begin >= 1.0  # Retry-After
    assert [store.read(url) for url in urls] == [picture(3), picture(9), picture(1)]
    assert server.asked["busy-3"] == 4


def test_a_host_is_asked_at_its_pace(server: Server, tmp_path: Path) -> None:
    urls = [server.url(f"ok-{i}") for i in range(11)]
    url_store(tmp_path, per_second=40.0).fetch(urls)
    assert max(server.times) - min(server.times) >= 10 / 40 - 0.02


def test_a_slow_host_does_not_hold_up_another(tmp_path: Path) -> None:
    slow, fast = Server(), Server()
    try:
        # Two names of one machine are two hosts.
        urls = [slow.url(f"ok-{i}") for i in range(20)]
        other = [fast.url(f"ok-{i}").replace("127.0.0.1", "localhost") for i in range(5)]
        url_store(tmp_path, per_second=20.0).fetch(urls + other)
        assert max(fast.times) < max(slow.times) - 0.4
    finally:
        slow.close()
        fast.close()


def test_ctrl_c_stops_at_once_and_keeps_what_is_there(server: Server, tmp_path: Path) -> None:
    urls = [server.url(f"ok-{i}") for i in range(200)]

    def interrupt(_: str, done: int, __: int | None) -> None:
        if done == 10:
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        url_store(tmp_path, per_second=20.0).fetch(urls, progress=interrupt)
    assert time.monotonic() - begin < 3
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.failed"))
    assert 10 <= len([p for p in tmp_path.rglob("*") if p.is_file()]) < 40


def test_a_cache_that_cannot_be_written_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="FEDPREP_CACHE"):
        url_store(tmp_path / "file").fetch([server.url("ok-1")])

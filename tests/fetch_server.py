"""A web server of raw files on 127.0.0.1 that can be told to misbehave."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fault = Callable[["Handler", bytes, int], None]
"""Answers one request in place of the server: handler, body, first byte asked for."""


@dataclass
class RawServer:
    """`files` by path; `faults` by path are used up one a request; `asked` is the log of requests."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"1"'})
    asked: list[tuple[str, str]] = field(default_factory=list)
    ranges: bool = True
    index_pages: bool = False

    def serve(self, name: str, body: bytes, *faults: Fault) -> str:
        """Returns the URL of a file, now served."""
        self.files[name], self.faults[name] = body, list(faults)
        return f"{self.address}/{name}"

    def ranges_asked(self, name: str) -> list[str]:
        return [asked for path, asked in self.asked if path == name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: RawServer

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.site.asked.append((name, self.headers.get("Range", "")))
        body = self.site.files.get(name)
        if body is None:
            self.index(name) if self.site.index_pages else self.answer(404, b"not here")
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.site.ranges and self.same_version() else 0
        if faults := self.site.faults.get(name):
            faults.pop(0)(self, body, start)
        elif start >= len(body) > 0 and start:
            self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        else:
            self.give(body, start)

    def same_version(self) -> bool:
        wanted = self.headers.get("If-Range", "")
        return not wanted or wanted in self.site.headers.values()

    def give(self, body: bytes, start: int, n_bytes: int | None = None) -> None:
        """Sends the body from `start`; after `n_bytes` of it the connection breaks."""
        more = dict(self.site.headers)
        if start:
            more["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.head(206 if start else 200, len(body) - start, more)
        end = len(body) if n_bytes is None else start + n_bytes
        self.wfile.write(body[start:end])
        if n_bytes is not None:
            self.hang_up()

    def answer(self, status: int, body: bytes, more: dict[str, str] | None = None) -> None:
        self.head(status, len(body), more or {})
        self.wfile.write(body)

    def head(self, status: int, length: int, more: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for key, value in more.items():
            self.send_header(key, value)
        self.end_headers()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def index(self, folder: str) -> None:
        """Sends a page of links, as Apache and `python -m http.server` do."""
        inside = {path[len(folder) :] for path in self.site.files if path.startswith(folder)}
        names = sorted({name.split("/")[0] + "/" * ("/" in name) for name in inside})
        if not names or (folder and not folder.endswith("/")):
            self.answer(404, b"not here")
            return
        links = "".join(f'<a href="{name}">{name}</a>' for name in ["?C=N;O=D", "../", *names])
        self.answer(200, f"<html>{links}</html>".encode(), {"Content-Type": "text/html"})

    def log_message(self, *_: object) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the tests."""


def cut_after(n_bytes: int) -> Fault:
    return lambda handler, body, start: handler.give(body, start, n_bytes)


def status(code: int, **headers: str) -> Fault:
    more = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler, body, start: handler.answer(code, b"", more)


def whole_anyway(handler: Handler, body: bytes, start: int) -> None:
    """Ignores Range."""
    handler.give(body, 0)


def slowly(seconds: float, first: int = 1) -> Fault:
    """Sends the first bytes, and the rest after a while."""

    def fault(handler: Handler, body: bytes, start: int) -> None:
        handler.head(200, len(body), handler.site.headers)
        handler.wfile.write(body[:first])
        handler.wfile.flush()
        time.sleep(seconds)
        handler.wfile.write(body[first:])

    return fault


@contextmanager
def running() -> Iterator[RawServer]:
    site = RawServer()
    handler = type("Bound", (Handler,), {"site": site})
    server = _Quiet(("127.0.0.1", 0), handler)
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

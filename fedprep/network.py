"""Requests that data of others cause go to public addresses alone.

A table of items names pictures by URL, and a server may redirect: neither may have this machine ask its own
services, its neighbours, or the address where clouds keep credentials. A host is looked up once, every
address that it has must be public, and the connection goes to the address that was checked, so that a second
look-up cannot give another one.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING

from fedprep.errors import FetchError

if TYPE_CHECKING:
    import httpx

__all__ = [
    "NotPublic",
    "checked_address",
    "is_public",
    "public_client_transport",
    "refuse_inner_redirect",
]

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotPublic(FetchError):
    """A host has an address that is not public."""


def is_public(address: str) -> bool:
    """Says whether an IP address is one of the public internet.

    Loopback, private, link-local, shared, reserved, multicast and unspecified addresses are not, nor are IPv6
    addresses that stand for such an IPv4 address (mapped, 6to4, NAT64).
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def checked_address(host: str, port: int) -> str:
    """Returns an address of a host to connect to.

    Raises:
        NotPublic: one of its addresses is not public.
        OSError: it has none, or cannot be looked up.
    """
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    closed = [address for address in found if not is_public(address)]
    if closed or not found:
        raise NotPublic(f"{host} is at {closed[0]}, which is no public address" if closed else host)
    return found[0]


def public_client_transport(allow: Collection[str], *, connections: int) -> httpx.BaseTransport:
    """Returns a transport for `httpx.Client` that asks public addresses alone, at each redirect anew.

    Where the environment names a proxy, the proxy looks hosts up: then a host that is written as an address
    is checked, and one that is a name has to have a dot.

    Args:
        allow: hosts, or `host:port`, that may be asked whatever their address; never through a proxy.
        connections: at a time.
    """
    import urllib.request

    import httpx

    # A connection serves one request: kept ones are found by address, and hosts that share one would share
    # what was checked of the first one's certificate.
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=0)
    named = urllib.request.getproxies()
    everywhere = dict.fromkeys(("http", "https"), named["all"]) if "all" in named else {}
    proxies = {
        scheme: httpx.HTTPTransport(proxy=proxy, limits=limits)
        for scheme, proxy in {**everywhere, **named}.items()
        if scheme in ("http", "https")
    }
    direct = httpx.HTTPTransport(limits=limits)
    allowed = {name.lower() for name in allow}

    class Public(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            url = request.url
            port = url.port or (443 if url.scheme == "https" else 80)
            if {url.host.lower(), f"{url.host.lower()}:{port}"} & allowed:
                return direct.handle_request(request)
            if url.scheme in proxies and not urllib.request.proxy_bypass(url.host):
                _refuse_inner_name(url.host)
                return proxies[url.scheme].handle_request(request)
            try:
                address = checked_address(url.host, port)
            except (OSError, UnicodeError) as error:
                if isinstance(error, NotPublic):
                    raise
                raise httpx.ConnectError(str(error), request=request) from None
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,  # Host among them, as the URL had it
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},
            )
            return direct.handle_request(pinned)

        def close(self) -> None:
            for transport in (direct, *proxies.values()):
                transport.close()

    return Public()


def refuse_inner_redirect(response: httpx.Response) -> None:
    """Refuses a redirect of a public server to an address that is not public: a hook of `httpx.Client`.

    A server of one's own network, which somebody named, may send on where it likes.

    Raises:
        httpx.UnsupportedProtocol: it is such a redirect.
    """
    import httpx

    if not response.has_redirect_location:
        return
    source = response.request.url
    target = source.join(response.headers["Location"])
    if target.host == source.host:
        return
    for url, is_source in ((source, True), (target, False)):
        try:
            checked_address(url.host, url.port or 443)
        except NotPublic as error:
            if is_source:
                return
            raise httpx.UnsupportedProtocol(f"it redirects to {error}") from None
        except (OSError, UnicodeError):
            return  # behind a proxy hosts may have no address here; else the request itself will say so


def _refuse_inner_name(host: str) -> None:
    """Refuses what a proxy could only take for an address of its own network."""
    try:
        public = is_public(host)
    except ValueError:
        # A number alone, or numbers that are no usual address, are read as addresses by some resolvers.
        last = host.rstrip(".").rpartition(".")[2]
        public = "." in host.strip(".") and not last[:1].isdigit() and last.lower() != "localhost"
    if not public:
        raise NotPublic(f"{host} is no public address")

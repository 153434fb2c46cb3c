"""The server of the page: one file, to this machine alone, by the standard library."""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stepsize.watching.state import RunState

__all__ = ["WatchServer", "is_loopback"]


class WatchServer(ThreadingHTTPServer):
    """Serves a page that follows one file.

    A request must name this machine in its ``Host`` header: a page of another site whose name was
    made to point here does not, and is told nothing.

    Args:
        path: the log of a run; it may be written later.
        host: the address to listen at.
        port: 0 takes any that is free.

    Raises:
        OSError: the port is taken, or the address is not of this machine.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would share a port that is in use

    def __init__(self, path: Any, host: str = "127.0.0.1", port: int = 0) -> None:
        self.state = RunState(path)
        self.host = host
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without looking up the name of the machine, which can take seconds."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.allow_reuse_address)
        )
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.host, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; anything else is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where the page is."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.server_port}/"

    def is_ours(self, host: str) -> bool:
        """Whether a ``Host`` header names this machine.

        An address does, since a name must be looked up before it can be made to point elsewhere.
        """
        name = urlsplit(f"//{host}").hostname or ""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            own = {"localhost", self.host.lower()}
            if not is_loopback(self.host):
                own.add(socket.gethostname().lower())
            return name in own
        return address.is_loopback or not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    places = {str(entry[4][0]).partition("%")[0] for entry in found}
    return all(ipaddress.ip_address(place).is_loopback for place in places)


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer
    timeout = 20
    server_version, sys_version = "stepsize", ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        try:
            ours = self.server.is_ours(self.headers.get("Host", ""))
        except ValueError:
            ours = False
        parts = urlsplit(self.path)
        if not ours:
            words = "this server answers to localhost alone: open the address that it printed\n"
            self._send(403, "text/plain", words.encode(), body)
        elif parts.path == "/":
            self._send(200, "text/html", page()[0], body)
        elif parts.path == "/data":
            since = parse_qs(parts.query).get("since", [""])[0]
            told = json.dumps(self.server.state.told(since), separators=(",", ":"))
            self._send(200, "application/json", told.encode(), body)
        else:
            self._send(404, "text/plain", b"there are / and /data\n", body)

    def _send(self, status: int, kind: str, content: bytes, body: bool) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": page()[1],
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """A request is no news."""


@functools.cache
def page() -> tuple[bytes, str]:
    """The page, and the policy that allows its own style and script and nothing else."""
    folder = resources.files("stepsize.watching")
    style, script, frame = (
        folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "page.html")
    )
    text = frame.replace("/* style */", style).replace("/* script */", script)
    allowed = {"style-src": style, "script-src": script}
    rules = [f"{name} 'sha256-{_digest(content)}'" for name, content in allowed.items()]
    rules += ["default-src 'none'", "connect-src 'self'", "img-src data:", "base-uri 'none'"]
    rules += ["form-action 'none'", "frame-ancestors 'none'"]
    return text.encode(), "; ".join(rules)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

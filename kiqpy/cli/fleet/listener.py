"""Answers GET requests on a port, in threads of its own: a blocked event loop does not matter.

Stands on the standard library alone: a fleet's supervisor uses it, too.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, NamedTuple, final

_MAX_REQUEST_S: Final = 5.0  # who says nothing for so long is hung up on


class HttpAnswer(NamedTuple):
    """What is answered to a request: HTTP's status, the content's type, the content."""

    status: int
    kind: str
    body: bytes


NOT_FOUND: Final = HttpAnswer(404, "text/plain", b"there is nothing here\n")
UNAVAILABLE: Final = HttpAnswer(503, "text/plain", b"no answer\n")
GetAnswer = Callable[[str], HttpAnswer]


def address_of(text: str) -> tuple[str, int]:
    """`PORT`, `HOST:PORT` or `[HOST]:PORT`; without a host all addresses. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is no port, as in 8080 or 127.0.0.1:8080")
    return host.strip("[]") or "0.0.0.0", int(port)


@final
class Listener:
    """Listens from the moment it is made; answers from `start` to `stop`.

    `paths`: those that are passed to `answer`, which is called in a thread of the request.
    """

    def __init__(self, address: tuple[str, int], paths: tuple[str, ...], answer: GetAnswer) -> None:
        """Raises OSError if nobody can listen there."""
        self._server = _Server(address, _handler(paths, answer))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="kiqpy-http", daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens; with the port that the system has chosen if 0 was asked for."""
        host, port = self._server.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """HttpAnswer no more. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    block_on_close = False  # a request under way must not hold up the end

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without a look-up of the host's name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nobody's concern."""


def _handler(paths: tuple[str, ...], answer: GetAnswer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _MAX_REQUEST_S
        server_version, sys_version = "kiqpy", ""

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            self._say(answer(path) if path in paths else NOT_FOUND)

        def _say(self, said: HttpAnswer) -> None:
            self.send_response(said.status)
            self.send_header("Content-Type", said.kind)
            self.send_header("Content-Length", str(len(said.body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            """Not a line for each probe."""

    return Handler

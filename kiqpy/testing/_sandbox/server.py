"""A real server that nobody else uses."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

from kiqpy.store.embedded.server import EmbeddedServer


class PrivateServer(EmbeddedServer):
    """A server in a folder of its own, which goes when it stops. `url` says where it is."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kiqpy-"))
        super().__init__(self._folder)

    def clear(self) -> None:
        """Remove every key. OSError if the server does not answer within 5 s."""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(5.0)
            wire.connect(self._socket)
            wire.sendall(b"FLUSHALL\r\n")
            if not wire.recv(256).startswith(b"+OK"):
                raise OSError("the server refused to remove its keys")

    async def stop(self) -> None:
        """End the server and remove its folder, which the next start makes again."""
        await super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)

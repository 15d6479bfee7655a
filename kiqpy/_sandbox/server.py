"""A real server that nobody else uses."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kiqpy.store._embedded import EmbeddedServer


class PrivateServer(EmbeddedServer):
    """A server in a folder of its own, which goes when it stops. `url` says where it is."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kiqpy-"))
        super().__init__(self._folder)

    async def stop(self) -> None:
        """End the server and remove its folder. Idempotent."""
        await super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)

"""Runs `kiqpy ...` in a process and a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.server import until

ROOT = Path(__file__).parents[2]
_OURS = ("KIQPY_", "REDIS_URL", "PYTEST_")


class Kiqpy:
    """A started `kiqpy`; what it writes is read as it comes. In a process group of its own."""

    def __init__(self, folder: Path, *words: str, **variables: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "kiqpy", *words],
            cwd=folder,
            env={**inherited, "PYTHONPATH": str(ROOT), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._written: dict[str, list[str]] = {"out": [], "err": []}
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._written
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        pipe = self.process.stdout if name == "out" else self.process.stderr
        assert pipe is not None
        with pipe:
            for line in pipe:
                self._written[name].append(line)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> str:
        return "".join(self._written["out"])

    @property
    def err(self) -> str:
        return "".join(self._written["err"])

    def says(self, text: str) -> None:
        """Return when it has written this to stderr."""
        until(lambda: text in self.err or not self.alive(), f"{text!r} on stderr", 30)
        assert text in self.err, self.err

    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """To this process alone."""
        self.process.send_signal(number)

    def ctrl_c(self) -> None:
        """As a terminal does it: to all processes of the group."""
        os.killpg(self.pid, signal.SIGINT)

    def ends(self, within: float = 30) -> int:
        """Its exit code, when it has ended and all it wrote is read."""
        code = self.process.wait(within)
        for reader in self._readers:
            reader.join(5)
        return code

    def kill(self) -> None:
        """With -9, this process alone; its children are left to themselves."""
        self.process.kill()
        self.ends()

    def __enter__(self) -> Kiqpy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.alive():
            self.kill()


def kiqpy(folder: Path, *words: str, **variables: str) -> tuple[int, str, str]:
    """Run it to its end: exit code, stdout, stderr."""
    with Kiqpy(folder, *words, **variables) as started:
        code = started.ends(60)
        return code, started.out, started.err

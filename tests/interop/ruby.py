"""The real Sidekiq: a Ruby that answers questions, and worker processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.server import until

HERE = Path(__file__).parent
MISSING = "no Sidekiq here: apt-get install --no-install-recommends ruby-sidekiq ruby-activejob"


def is_here() -> bool:
    return shutil.which("sidekiq") is not None and shutil.which("ruby") is not None


class RubyError(Exception):
    """What Ruby raised."""


class Ruby:
    """Sidekiq's client, API and web page in one long-lived process; see desk.rb."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["ruby", "-W0", str(HERE / "desk.rb")],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, what: str, *args: Any) -> Any:
        """Call a function of the desk; RubyError says what it raised."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([what, args]).encode() + b"\n")
        stdin.flush()
        line = stdout.readline()
        assert line, f"Ruby has ended: {self._process.poll()}"
        answer = json.loads(line)
        if "error" in answer:
            raise RubyError(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


class Sidekiq:
    """A Sidekiq worker process; what it writes is read as it comes."""

    def __init__(self, url: str, *words: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            ["sidekiq", "-r", str(HERE / "jobs.rb"), "-c", "5", *words],
            env=_environment() | {"REDIS_URL": url, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    @property
    def out(self) -> str:
        return "".join(self._lines)

    def says(self, text: str) -> None:
        until(lambda: text in self.out or self.process.poll() is not None, f"{text!r} of Ruby", 30)
        assert text in self.out, self.out

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        code = self.process.wait(40)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def __enter__(self) -> Sidekiq:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ends()


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "SIDEKIQ_"))}
    return kept | {"LANG": "C.UTF-8", "RUBYOPT": "-W0", "RACK_ENV": "test"}

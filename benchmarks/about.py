"""The machine, the versions and the commit of a run."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import wire
from benchmarks.parties import OURS, Party


def machine() -> str:
    """A short name for this kind of machine, fit for a file's name."""
    return f"{platform.system().lower()}-{platform.machine()}-{os.cpu_count()}cores"


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*: (.+)", text)
    return found[1] if found else platform.processor()


def sidekiq() -> str:
    """Whether Sidekiq is here. It is not one of the parties: it has a run of its own."""
    found = shutil.which("sidekiq")
    return "python -m benchmarks.sidekiq measures it" if found else "not installed here"


def revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip() or "unknown"


def run(url: str, parties: list[Party], rounds: int, share: float) -> dict[str, Any]:
    """Everything a reader of the numbers must know."""
    fields = wire.info(url)
    server = fields.get("valkey_version") or fields["redis_version"]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "server": f"{fields.get('server_name', 'redis')} {server}, TCP, no persistence",
        "revision": revision(),
        "rounds": rounds,
        "share": share,
        "ours": list(OURS),
        "kinds": {party.name: party.kind for party in parties},
        "settings": {party.name: party.settings for party in parties},
        "versions": {party.name: party.versions for party in parties},
        "sidekiq": sidekiq(),
    }

"""What a forked child does not take over."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, multiprocessing, os, signal, time
from kiqpy._flow.forks import handles

def wait():
    ready.set()
    time.sleep(60)

async def main():
    loop = asyncio.get_running_loop()
    heard = []
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard.append, number)
        handles(number)
    for number in (signal.SIGTERM, signal.SIGINT):
        ready.clear()
        child = {start}
        await asyncio.to_thread(ready.wait)
        os.kill(child.pid, number)
        await asyncio.to_thread(child.wait if hasattr(child, "wait") else child.join)
        print(getattr(child, "exitcode", None) or child.returncode)
    await asyncio.sleep(0.1)
    print(heard)
    os.kill(os.getpid(), signal.SIGTERM)
    while not heard:
        await asyncio.sleep(0.01)
    print(heard)

fork = multiprocessing.get_context("fork")
ready = fork.Event()

def forked():
    child = fork.Process(target=wait)
    child.start()
    return child

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "start",
    ["forked()", "await asyncio.to_thread(forked)"],
    ids=["in the loop", "in a thread"],
)
def test_a_forked_childs_signals_are_its_own(start: str) -> None:
    """A job that ended its multiprocessing child by SIGTERM stopped the worker instead."""
    command = [sys.executable, "-c", PROGRAM.replace("{start}", start)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said = ran.stdout.splitlines()
    assert said[0] == "-15"
    assert said[1] == "1"  # a KeyboardInterrupt
    assert said[2] == "[]"
    assert said[3] == "[<Signals.SIGTERM: 15>]"

"""Scripts that forget to stop what they have started: they end, nothing is lost, they may go on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.server import TestServer

HEAD = """
import asyncio, logging, os, sys, threading, time
from kiqpy import App, LifecycleError, worker

began, ran = threading.Event(), []

@worker
async def note(n): ran.append(n)

@worker
async def waits(n):
    began.set()
    await asyncio.Event().wait()

class Jobs(App):
    queues = {"default": 3}
    workers = [note, waits]

jobs = Jobs()

def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    return thread

def run(main):
    asyncio.run(main())
"""
WAYS = {
    "close_sync": """
def main():
    print(jobs.enqueue_sync(note.new(1)).state)
    jobs.enqueue_nowait(note.new(2))
""",
    "close_sync, in a thread that outlives the main one": """
def main():
    threading.main_thread().join()
    print(jobs.enqueue_sync(note.new(1)).state)
    jobs.enqueue_nowait(note.new(2))
    threading.Thread(target=lambda: jobs.enqueue_nowait(note.new(3))).start()
""",
    "stop": """
async def coroutine():
    await jobs.start()
    print((await jobs.enqueue(note.new(1))).state)
    await jobs.enqueue(waits.new(1))
    while not began.is_set(): await asyncio.sleep(0.01)
def main(): run(coroutine)
""",
    "stop, and the loop": """
async def coroutine():
    await jobs.start()
    print((await jobs.enqueue(note.new(1))).state)
def main(): asyncio.new_event_loop().run_until_complete(coroutine())
""",
    "stop of a client": """
async def coroutine():
    await jobs.client_only().__aenter__()
    print((await jobs.enqueue(note.new(1))).state)
def main(): run(coroutine)
""",
    "a stream": """
async def coroutine():
    stream = await jobs.events().__aenter__()
    print(jobs.enqueue_nowait(note.new(1)).state.replace("buffered", "queued"))
    await jobs.flush()
    reading.append(asyncio.ensure_future(anext(stream)))
reading = []
async def started():
    async with jobs: await coroutine()
def main(): run(started)
""",
    "testing": """
async def coroutine():
    testing.append(jobs.testing())
    tester = await testing[0].__aenter__()
    print((await jobs.enqueue(note.new(1))).state)
testing = []
def main(): run(coroutine)
""",
    "testing, with a job that runs": """
async def coroutine():
    testing.append(jobs.testing())
    tester = await testing[0].__aenter__()
    print((await jobs.enqueue(waits.new(1))).state)
    draining.append(asyncio.ensure_future(tester.drain()))
    while not began.is_set(): await asyncio.sleep(0.01)
testing, draining = [], []
def main(): run(coroutine)
""",
}
PLACES = {"main thread": "\nmain()\n", "other thread": "\nin_thread(main).join()\n"}


def environment(url: str | None, folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.endswith("REDIS_URL")}
    return kept | ({"REDIS_URL": url} if url else {"PWD": str(folder)})


def script(text: str, url: str | None, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HEAD + text],
        env=environment(url, folder) | {"PYTHONPATH": os.getcwd()},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("address", ["url", "embedded"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_a_script_ends_whatever_it_forgets(
    clean: TestServer, tmp_path: Path, way: str, address: str, where: str
) -> None:
    """The first thing that a user of Django, Flask or cron writes hung for ever at its end."""
    place = "\nin_thread(main)\n" if "outlives" in way else PLACES[where]
    text = WAYS[way] + place + "print(time.time())"
    ran = script(text, clean.url if address == "url" else None, tmp_path)
    ended_at = time.time()
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr
    assert "queued" in ran.stdout
    last = max(float(line) for line in ran.stdout.split() if line[0].isdigit())
    assert ended_at - last < 10, "it should take a second; a busy machine takes longer"
    if way.startswith("close_sync") and address == "url":
        assert clean.cli("LLEN", "queue:default") == (3 if "outlives" in way else 2)
    clean.cli("FLUSHALL")  # what a process without a stop leaves: its lease, its place in the list


# -- the loop has gone, the program goes on

ANEW = """
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)

async def forgotten():
    await jobs.start()
    await jobs.enqueue(note.new(1))

async def again():
    async with jobs:
        await jobs.enqueue(note.new(2))
        while 2 not in ran: await asyncio.sleep(0.01)

asyncio.run(forgotten())
try:
    asyncio.run(jobs.enqueue(note.new(3)))
except LifecycleError as error:
    print("error", error)
print("anew")
asyncio.run(again())
print("end")
asyncio.run(forgotten())
print("state", jobs.enqueue_sync(note.new(4)).state)
jobs.close_sync()
asyncio.run(forgotten())
asyncio.run(jobs.stop())
print("started", jobs.started)
print("threads", [t.name for t in threading.enumerate() if t.name == "kiqpy-client"])
files = []
for n in os.listdir("/proc/self/fd"):
    try: files.append(os.readlink(f"/proc/self/fd/{n}"))
    except FileNotFoundError: pass
print("files", [path for path in files if os.getcwd() in path])
"""


@pytest.mark.parametrize("address", ["url", "embedded"])
def test_an_app_whose_loop_was_closed_is_started_anew(
    clean: TestServer, tmp_path: Path, address: str
) -> None:
    """It said `started already` for ever."""
    ran = script(ANEW, clean.url if address == "url" else None, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "error the app's event loop was closed without a stop: start it again" in ran.stdout
    second = ran.stdout.partition("anew")[2].partition("\nend\n")[0]
    assert second.count("process.started") == second.count("process.stopped") == 1
    for line in ("state queued", "started False", "threads []", "files []"):
        assert f"\n{line}\n" in ran.stdout
    clean.cli("FLUSHALL")


RESCUED = """
async def forgotten():
    await jobs.start()
    await jobs.enqueue(waits.new(1))
    while not began.is_set(): await asyncio.sleep(0.01)

async def again():
    began.clear()
    async with jobs:
        while not began.is_set(): await asyncio.sleep(0.01)
        print("again")
        await jobs.stop(0)

jobs = Jobs(lease_ttl=5, suspicion=1, heartbeat_interval=1)
asyncio.run(forgotten())
asyncio.run(again())
"""


@pytest.mark.slow
def test_what_an_app_of_a_closed_loop_held_is_rescued(clean: TestServer, tmp_path: Path) -> None:
    ran = script(RESCUED, clean.url, tmp_path)
    assert (ran.stdout, ran.returncode) == ("again\n", 0), ran.stderr
    clean.cli("FLUSHALL")

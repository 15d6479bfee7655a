"""Importing kiqpy loads only what all users need.

Times depend on the machine; `python -m benchmarks.ours.imports` measures them.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

LOADED = '{}\nimport sys\nprint("\\n".join(sys.modules))'
BARE = "import redis.asyncio"  # what an app stands on
WORKERS = "from kiqpy import Job, Worker, worker"
APP = "from kiqpy import App"
EVERY_NAME = "import kiqpy\nfor name in kiqpy.__all__: getattr(kiqpy, name)"

# Not for a program that enqueues and runs jobs: of testing, of the command line, of operators.
OTHERS_USE = {
    *("click", "croniter", "pytest", "kiqpy.integrations", "kiqpy.cli"),
    *("kiqpy.admin", "kiqpy.admin._moves", "kiqpy.admin._rows", "kiqpy.admin._search"),
    *("kiqpy.web", "starlette", "jinja2", "uvicorn"),
    *("kiqpy.observe.sentry", "sentry_sdk"),
    *("kiqpy.testing", "kiqpy.testing._fakeclock", "kiqpy.testing._modes"),
    *("kiqpy.testing._sandbox", "kiqpy.testing._sandbox.environment", "kiqpy.store.memory.backend"),
}
# Not before an app starts: redis-py takes longer to import than all of kiqpy.
STARTS_USE = {"redis", "kiqpy._runtime.engine", "kiqpy.store.redis.backend", "kiqpy._stages"}
# Not for an app without periodics, codecs and workers in processes, started in an event loop, that
# does not use structlog itself.
RUNS_USE = {"anyio", "multiprocessing.process", "structlog"}
SOME_USE = RUNS_USE | {
    *("kiqpy.periodic", "kiqpy._cron.crontab", "kiqpy._cron.timetable", "zoneinfo", "kiqpy.codec"),
}
# Not for a module of workers: pytest loads a plugin of this package at every start.
APPS_USE = {
    *("asyncio", "logging"),
    *("kiqpy.app", "kiqpy.clock", "kiqpy.config", "kiqpy.event", "kiqpy.store"),
}


@cache
def loaded(code: str) -> frozenset[str]:
    command = [sys.executable, "-c", LOADED.format(code)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return frozenset(run.stdout.split())


UNUSED = [
    (WORKERS, OTHERS_USE | SOME_USE | APPS_USE),
    (APP, OTHERS_USE | SOME_USE | STARTS_USE),
    (EVERY_NAME, OTHERS_USE | RUNS_USE | STARTS_USE),
]


@pytest.mark.parametrize(("code", "unused"), UNUSED, ids=["workers", "app", "every name"])
def test_nothing_is_loaded_that_is_not_used(code: str, unused: set[str]) -> None:
    modules = loaded(code)
    assert "kiqpy" in modules
    assert not modules & unused


def test_the_budget_can_be_exceeded() -> None:
    assert loaded("import click, zoneinfo") & (OTHERS_USE | SOME_USE) == {"click", "zoneinfo"}
    assert loaded(APP) >= APPS_USE
    assert loaded(EVERY_NAME) & SOME_USE == SOME_USE - RUNS_USE


FAST = {"msgspec", "typing_extensions"}  # of an extra that need not be there
MOST = [(WORKERS, 19, 0), (APP, 80, 0)]


@pytest.mark.parametrize(("code", "own", "others"), MOST, ids=["workers", "app"])
def test_modules_are_no_more_than_they_were(code: str, own: int, others: int) -> None:
    """Of ours, and of those that packages beyond the standard library bring."""
    packages = [name.partition(".")[0] for name in loaded(code) - loaded(BARE)]
    strange = [p for p in packages if p not in {"kiqpy", *FAST, *sys.stdlib_module_names}]
    assert packages.count("kiqpy") <= own
    assert len(strange) <= others, sorted(strange)


COMPILED = """
import sys, dataclasses
from kiqpy._record import Record
for name in [name for name in sys.modules if name.startswith("kiqpy")]:
    for value in vars(sys.modules[name]).values():
        if dataclasses.is_dataclass(value) and not issubclass(value, Record):
            print(value.__qualname__)
"""


def test_few_classes_are_compiled_at_each_import() -> None:
    """A dataclass costs 0.6 ms and more; a `Record` a tenth of that."""
    command = [sys.executable, "-c", APP + COMPILED]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) == {"QueueGroup"}

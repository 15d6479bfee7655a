"""A web process that only enqueues does not pay for cron, the dashboard or the command line."""

import subprocess
import sys

import pytest

LOADED = """
import sys
import kiqpy
for name in kiqpy.__dict__.get("__all__", ()):
    if {every_name}:
        getattr(kiqpy, name)
print("\\n".join(sys.modules))
"""
DEAR = {"click", "croniter", "kiqpy.cli", "kiqpy._web", "kiqpy.testing", "kiqpy.integrations"}


def loaded(*, every_name: bool) -> set[str]:
    code = LOADED.format(every_name=every_name)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("every_name", [False, True], ids=["import", "every public name"])
def test_importing_kiqpy_loads_nothing_a_client_does_not_use(every_name: bool) -> None:
    modules = loaded(every_name=every_name)
    assert "kiqpy" in modules
    assert not modules & DEAR


def test_the_budget_can_be_exceeded() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import click, sys; print(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(run.stdout.split()) & DEAR == {"click"}

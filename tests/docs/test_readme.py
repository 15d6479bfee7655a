"""README's snippets run and print what README shows."""

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROGRAM = re.search(
    r"<!-- run: .*?-->\n```python\n(.*?)```\n\n<!-- output -->\n```\n(.*?)```", README, re.DOTALL
)


def test_the_first_program_prints_what_is_shown(tmp_path: Path) -> None:
    """As a newcomer would: a folder, no server, no URL."""
    assert PROGRAM is not None
    (tmp_path / "app.py").write_text(PROGRAM[1])
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == PROGRAM[2], done.stderr
    assert "using a private server" in done.stderr


@pytest.mark.anyio
async def test_the_enqueue_examples_do_as_they_say(redis_url: str) -> None:
    assert len(SNIPPETS) == 3
    module = types.ModuleType("readme")
    sys.modules["readme"] = module
    exec(compile(SNIPPETS[1], "README.md", "exec"), module.__dict__)
    async with module.Jobs(redis_url=redis_url).client_only() as jobs:
        await module.examples(jobs)
        await jobs.flush()
        sizes = await jobs.store.census.sizes(["default", "exports", "ruby"])
    assert sizes == {
        "default": 4, "exports": 2, "ruby": 1, "schedule": 2, "retry": 0, "dead": 0,
    }  # fmt: skip


@pytest.mark.anyio
async def test_what_a_job_can_ask_for_can_be_asked_for(redis_url: str) -> None:
    module = types.ModuleType("readme_all")
    sys.modules["readme_all"] = module
    exec(compile(SNIPPETS[2], "README.md", "exec"), module.__dict__)
    async with module.Jobs(redis_url=redis_url) as jobs:
        receipts = [await jobs.enqueue(module.digest.using(in_=60).new(7)) for _ in range(2)]
        await module.while_it_runs(jobs)
        assert jobs.subscriptions() == {"mail": 50, "critical": 20, "low": 20}
    assert [receipt.state for receipt in receipts] == ["scheduled", "duplicate"]


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^):#]+)\)", README)
    assert links
    assert [link for link in links if not (Path(__file__).parents[2] / link).exists()] == []

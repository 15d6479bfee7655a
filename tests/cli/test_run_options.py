"""`kiqpy run` overrides the options of an app, and can stop it early."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kiqpy import App, Config, ConfigError, worker
from kiqpy.cli import main
from kiqpy.cli.run import chosen
from kiqpy.event import ProcessStopped

pytestmark = pytest.mark.anyio

begun = asyncio.Event()


@worker
async def forever() -> None:
    begun.set()
    await asyncio.Event().wait()


class Jobs(App):
    queues = {"default": 1}
    workers = [forever]

    def init(self, config: Config) -> Any:
        return config.replace(queues={"from-init": 2}, shutdown_timeout=500)


async def test_an_override_counts_most(redis_url: str) -> None:
    app = Jobs(redis_url="redis://127.0.0.1:1/0")
    app.override(redis_url=redis_url, queues={"mine": 3})
    async with app:
        assert app.config.queues == {"mine": 3}
        assert app.config.shutdown_timeout == 500
    async with app:
        assert app.config.queues == {"mine": 3}


async def test_an_override_is_checked_at_once() -> None:
    app = Jobs()
    with pytest.raises(ConfigError, match="did you mean 'queues'"):
        app.override(queus={"mine": 3})
    with pytest.raises(ConfigError, match="1 or more"):
        app.override(queues={"mine": 0})
    assert app.config.queues == {"default": 1}


async def test_a_second_stop_shortens_the_grace(redis_url: str) -> None:
    begun.clear()
    stopped: list[ProcessStopped] = []
    app = Jobs(redis_url=redis_url)
    app.override(queues={"default": 1})
    app.attach("process.stopped", stopped.append)
    await app.start()
    await app.enqueue(forever.new())
    await asyncio.wait_for(begun.wait(), 10)
    stopping = asyncio.create_task(app.stop())
    await asyncio.sleep(0)
    again = asyncio.create_task(app.stop())  # the same grace: it waits for the same end
    done, _ = await asyncio.wait({stopping, again}, timeout=0.2)
    assert not done
    await app.stop(0)
    await asyncio.wait_for(asyncio.gather(stopping, again), 10)
    assert [event.released for event in stopped] == [1]


@pytest.mark.parametrize("text", ["from-init:x", "default:", "default:-1", "default:2.5"])
def test_a_number_of_jobs_that_is_none_is_refused(text: str) -> None:
    """It was a queue of that name, which nobody serves."""
    with pytest.raises(ConfigError, match=f"-q {text}: .* is no number of jobs, as in -q"):
        chosen(App(), (text,), None)


def test_a_queue_may_have_a_colon_in_its_name() -> None:
    assert chosen(App(queues={"a:b": 3}), ("a:b",), None) == {"a:b": 3}


@pytest.mark.parametrize(
    ("name", "meant"),
    [("KIQPY_CONCURENCY", "KIQPY_CONCURRENCY"), ("KIQPY_LOGLEVEL", "KIQPY_LOG_LEVEL")],
)
def test_a_misspelt_variable_is_not_ignored(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KIQPY_MY_OWN", "x")
    monkeypatch.setenv(name, "4")
    assert main(["stats"]) == 1
    said = capsys.readouterr().err
    assert f"no command reads the environment variable {name}; did you mean '{meant}'?" in said

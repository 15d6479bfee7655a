"""A job from the command line: a worker's of the app, or any class that others run."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, cast

import click

from kiqpy._declare.checks import queue_name
from kiqpy.app import App
from kiqpy.errors import ArgumentError, ConfigError, UnknownWorker
from kiqpy.job import Job


def json_array(text: str) -> list[Any]:
    """The arguments that were typed; BadParameter shows where the JSON goes wrong."""
    example = """write a JSON array in quotes, such as '[7, "plain"]'"""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{text!r} is not JSON ({error}): {example}") from None
    if not isinstance(found, list):
        raise click.BadParameter(f"{text!r} is JSON, but not an array: {example}")
    return cast("list[object]", found)


def moment(text: str) -> datetime | float:
    """An ISO 8601 instant with its zone, or epoch seconds."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no instant: write 2030-01-31T09:00Z, or epoch seconds"
        ) from None


def job(app: App, name: str, args: list[Any], queue: str | None) -> Job:
    """A job of the app's worker `name`; of any class if the app has no workers, or with a queue.

    A queue that was named is not enough if a worker of nearly that name exists: it is a slip.
    """
    try:
        spec = app.registry.find(name)
    except UnknownWorker as error:
        slip = "did you mean" in str(error)
        if app.registry.specs() and (slip or queue is None):
            hint = str(error).removesuffix(" Add it to App.workers").rstrip(";? ")
            hint += "" if slip else "; for a class that others run, name its queue with -q"
            raise ConfigError(hint + ("?" if slip else "")) from None
        if not name:
            raise ArgumentError("the class name is empty") from None
        return Job(name, args, queue=queue_name(queue or "default"))
    positional, keywords = spec.arguments(args)
    made = spec.new(tuple(positional), keywords, spec.given)
    if queue is not None:
        made.payload["queue"] = queue_name(queue)
    return made

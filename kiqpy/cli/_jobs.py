"""Parses a job from the command line: for a worker of the app, or for any class name."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, cast

import click

from kiqpy._declare.checks import queue_name
from kiqpy._spec import Spec
from kiqpy.app import App
from kiqpy.errors import ArgumentError, ConfigError, UnknownWorker, suggest
from kiqpy.job import Job


def json_array(text: str) -> list[Any]:
    """The arguments as a list. Raises BadParameter, which shows where the JSON is wrong."""
    example = """write a JSON array in quotes, such as '[7, "plain"]'"""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{text!r} is not JSON ({error}): {example}") from None
    if not isinstance(found, list):
        raise click.BadParameter(f"{text!r} is JSON, but not an array: {example}")
    return cast("list[object]", found)


def moment(text: str) -> datetime | float:
    """An ISO 8601 time with its zone, or epoch seconds. Raises BadParameter."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time: write 2030-01-31T09:00Z, or epoch seconds"
        ) from None


def job(app: App, name: str, args: list[Any], queue: str | None) -> Job:
    """A job for the app's worker `name`.

    Any class name is taken if the app has no workers, or if a queue is given: another process runs
    it. A name that is close to a worker's is refused even then, as a likely typo.
    """
    try:
        spec = app.registry.find(name)
    except UnknownWorker as error:
        typo = "did you mean" in str(error)
        if app.registry.specs() and (typo or queue is None):
            hint = str(error).removesuffix(" Add it to App.workers").rstrip(";? ")
            hint += (
                "" if typo else "; for a class that another process runs, give its queue with -q"
            )
            raise ConfigError(hint + ("?" if typo else "")) from None
        if not name:
            raise ArgumentError("the class name is empty") from None
        return Job(name, args, queue=queue_name(queue or "default"))
    _check_keywords(spec, args)
    positional, keywords = spec.arguments(args)
    made = spec.new(tuple(positional), keywords, spec.given)
    if queue is not None:
        made.payload["queue"] = queue_name(queue)
    return made


def _check_keywords(spec: Spec, args: list[Any]) -> None:
    """ConfigError for an object at the end that can only be meant as keywords, with a wrong one."""
    last = args[-1] if args else None
    if not spec.keywords or spec.any_keyword or not isinstance(last, dict):
        return
    wrong = sorted(cast("dict[str, Any]", last).keys() - spec.keywords)
    if wrong and len(args) > len(spec.names):
        hint = suggest(wrong[0], spec.keywords) or "it takes " + ", ".join(sorted(spec.keywords))
        raise ConfigError(f"{spec.name} takes no keyword {wrong[0]!r}; {hint}")

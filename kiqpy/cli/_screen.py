"""What is written for people: complaints in one line, always on stderr."""

from __future__ import annotations

import importlib.metadata

import click


def complain(trouble: object) -> None:
    """One line on stderr that names cause and fix."""
    say(f"kiqpy: {one_line(trouble)}")


def say(text: str) -> None:
    """A line on stderr, at once."""
    click.echo(text, err=True)


def version() -> str:
    """The installed version of kiqpy."""
    try:
        return importlib.metadata.version("kiqpy")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def one_line(trouble: object) -> str:
    """The text of a message that may have several lines."""
    lines = (line.strip() for line in str(trouble).splitlines())
    return "; ".join(line for line in lines if line).replace(":; ", ": ")

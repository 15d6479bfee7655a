"""The installed version of kiqpy, for its processes and its command line."""

from __future__ import annotations


def version() -> str:
    """As the package was installed."""
    import importlib.metadata  # an expensive import; a client needs none

    try:
        return importlib.metadata.version("kiqpy")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"

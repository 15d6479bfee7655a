"""The installed version of kiqpy, for its processes and its command line."""

from __future__ import annotations


def version() -> str:
    """As the package was installed."""
    import importlib.metadata  # dear: a client does without

    try:
        return importlib.metadata.version("kiqpy")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"

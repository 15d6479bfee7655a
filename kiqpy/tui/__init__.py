"""`kiqpy top`: the lists of the dashboard, live in a terminal. Needs the extra `tui`."""

from __future__ import annotations

from kiqpy.tui._top import Top

__all__ = ["Top"]

"""A module that holds workers, for `api.py`."""

from kiqpy import worker


@worker
def one() -> None: ...

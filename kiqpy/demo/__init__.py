"""The work of `kiqpy demo`: parse a Python library, one job a file."""

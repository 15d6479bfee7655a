"""Microseconds of each part of a job's path, measured alone, to locate a regression.

`python -m benchmarks.micro [WORD ...]` runs the parts whose names hold one of the words.
"""

"""Microseconds of each part of a job's path, alone: a regression gets an address.

`python -m benchmarks.micro [WORD ...]` runs the parts whose names hold one of the words.
"""

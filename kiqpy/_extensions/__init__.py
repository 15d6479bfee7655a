"""Capabilities composed around the stages, one in each file; `builtin.py` lists them in order."""

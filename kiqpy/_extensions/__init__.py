"""What is composed around the stages: one capability a file. `builtin.py` lists them in order."""

"""The store in this process's memory, for tests."""

"""Decisions as pure functions: what becomes of a job, when it is retried, which lock it holds."""

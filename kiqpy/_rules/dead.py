"""What a dead job's payload says of why it is dead, where no exception of its own does."""

from __future__ import annotations

from typing import Any

from kiqpy.job import Job, seconds


def dead_fields(job: Job, error: str, message: str, now: float) -> dict[str, Any]:
    """The fields of a failure, as Sidekiq's web pages show them; `error` without its package.

    `failed_at` is when a job failed first: a time that is there already stays.
    """
    fields: dict[str, Any] = {
        "error_class": f"kiqpy.{error}",
        "error_message": message,
        "retry_count": max(0, job.retry_count),
    }
    if seconds(job.payload.get("failed_at")) is None:
        fields["failed_at"] = now
    return fields

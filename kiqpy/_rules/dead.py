"""The fields that say why a job is dead, if no exception of its own does."""

from __future__ import annotations

from typing import Any

from kiqpy.job import Job, seconds


def dead_fields(job: Job, error: str, message: str, now: float) -> dict[str, Any]:
    """The fields of a failure, as Sidekiq's web pages show them. `error`: a class of `kiqpy`.

    `failed_at` is the time of the first failure, so an earlier one stays.
    """
    fields: dict[str, Any] = {
        "error_class": f"kiqpy.{error}",
        "error_message": message,
        "retry_count": max(0, job.retry_count),
    }
    if seconds(job.payload.get("failed_at")) is None:
        fields["failed_at"] = now
    return fields

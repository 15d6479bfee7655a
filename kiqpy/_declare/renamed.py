"""Options of Kiq, Exq, Verk, Toniq, Celery and others, and what to write in kiqpy instead.

Error messages suggest kiqpy's name, and the unit if it differs: theirs is mostly milliseconds.
"""

from __future__ import annotations

from typing import Final

RENAMED: Final = {
    "url": "redis_url",
    "redis": "redis_url",
    "redis_url_provider": "redis_url",
    "prefix": "namespace",
    "redis_key_prefix": "namespace",
    "scope": "namespace",
    "max_retries": "retry",
    "max_retry_count": "retry",
    "max_attempts": "retry",
    "retry_strategy": "backoff",
    "extra_reporters": "reporters",
    "middlewares": "middleware",
    "node_id": "identity",
    "local_node_id": "identity",
    "node_identifier": "identity",
    "max_dead_jobs": "dead_limit",
    "dead_max_jobs": "dead_limit",
    "dead_timeout_in_seconds": "dead_timeout",
    "number_of_concurrent_jobs": "max_running",
    "start_job_log_level": "start_log_level",
    "done_job_log_level": "done_log_level",
    "fail_job_log_level": "fail_log_level",
    "schedules": "periodics",
    "failed_job_stacktrace_size": "backtrace",
}

IN_MILLISECONDS: Final = {
    "poll_timeout": "fetch_interval",
    "workers_manager_timeout": "fetch_interval",
    "scheduler_poll_timeout": "poll_interval",
    "delay_flush_interval": "poll_interval",
    "heartbeat": "heartbeat_interval",
    "keepalive_interval": "heartbeat_interval",
    "keepalive_expiration": "lease_ttl",
    "takeover_interval": "suspicion",
}

_URL: Final = 'it is part of redis_url: "redis://:password@host:port/database"'
_NAMED: Final = "an app is called like its class; several apps share nothing"
_TIMEOUT: Final = "say redis_options={'socket_timeout': seconds}"
_ALWAYS: Final = "every process has an identity of its own and a heartbeat; see lease_ttl"
_CLEANED: Final = "nothing of a job that is done is kept; it comes with blocking queues"
_JSON: Final = "payloads are Sidekiq's JSON; richer arguments: @worker(codecs=[...])"
_RESULTS: Final = "what a job returns reaches reporters; store it there or in the job itself"
_AROUND: Final = "what runs around the app stands around `async with jobs:`, such as a lifespan"
_JOBS: Final = "what runs around each job is a middleware; what hears of it, a reporter"
_CATCH_UP: Final = "say it of each entry: Periodic(..., misfire=, misfire_grace=, tz=)"

HINTS: Final = {
    "host": _URL,
    "port": _URL,
    "database": _URL,
    "password": _URL,
    "client_opts": 'say redis_url="redis://..." and redis_options={...}',
    "redis_timeout": _TIMEOUT,
    "genserver_timeout": _TIMEOUT,
    "socket_opts": "say redis_options={...}, which go to redis-py",
    "name": _NAMED,
    "client_name": _NAMED,
    "pool_name": _NAMED,
    "registry_name": _NAMED,
    "reporter_name": _NAMED,
    "senator_name": _NAMED,
    "otp_app": _NAMED,
    "mode": "say server=False for a process that only enqueues",
    "server?": "did you mean 'server'?",
    "disable?": "say server=False",
    "start_on_application": "nothing starts by itself: `async with jobs:`",
    "scheduler_enable": "say schedulers=[] to leave both sets to others",
    "scheduler_page_size": "due jobs are moved a hundred at a time",
    "heartbeat_enable": _ALWAYS,
    "generate_node_id": _ALWAYS,
    "missed_heartbeats_allowed": "say lease_ttl= (seconds), at least twice heartbeat_interval",
    "stats_flush_interval": "statistics are counted with each outcome; there is nothing to flush",
    "stats_batch_size": "statistics are counted with each outcome; there is nothing to flush",
    "serializer": _JSON,
    "json_library": _JSON,
    "args_keys": _JSON,
    "queue_adapter": 'say test_mode="sandbox", or `async with jobs.testing():`',
    "disable_import": "local jobs come in a later version of kiqpy",
    "job_import_interval": "local jobs come in a later version of kiqpy",
    "repo": "kiqpy keeps its jobs in Redis: say redis_url=",
    "cleanup_interval": _CLEANED,
    "job_retention": _CLEANED,
    "job_cleaner_max_initial_delay": _CLEANED,
    "missed_jobs_window": _CATCH_UP,
    "time_zone": _CATCH_UP,
    "key_expire_padding": "ticks are kept as long as their entry is",
    "storage": "periodics are kept where the jobs are",
    # arq, saq, Celery, taskiq
    "functions": "did you mean 'workers'?",
    "tasks": "did you mean 'workers'?",
    "imports": "say workers=[...]: functions, classes, or the modules that hold them",
    "cron_jobs": "did you mean 'periodics'?",
    "beat_schedule": "did you mean 'periodics'?",
    "redis_settings": _URL,
    "broker": "say redis_url=",
    "broker_url": "did you mean 'redis_url'?",
    "backend": _RESULTS,
    "result_backend": _RESULTS,
    "keep_result": _RESULTS,
    "on_startup": _AROUND,
    "on_shutdown": _AROUND,
    "startup": _AROUND,
    "shutdown": _AROUND,
    "on_job_start": _JOBS,
    "on_job_end": _JOBS,
    "after_job_end": _JOBS,
    "before_process": _JOBS,
    "after_process": _JOBS,
    "max_jobs": "did you mean 'max_running'?",
    "job_timeout": "did you mean 'timeout'?",
    "task_time_limit": "did you mean 'timeout'?",
    "task_soft_time_limit": "did you mean 'timeout'?",
    "max_tries": "did you mean 'retry'?",
    "poll_delay": "did you mean 'poll_interval'?",
    "queue_name": "did you mean 'queues'?",
    "worker_concurrency": "did you mean 'concurrency'?",
    "task_serializer": _JSON,
    "task_default_queue": "say it of a worker: @worker(queue=...)",
    "accept_content": _JSON,
    "task_routes": "say it of a worker: @worker(queue=...)",
    "timezone": _CATCH_UP,
    "worker_prefetch_multiplier": "no job is claimed before it can run",
}

PLAIN_WORDS: Final = frozenset(
    {
        "name",
        "mode",
        "scope",
        "host",
        "port",
        "storage",
        "schedules",
        "tasks",
        "startup",
        "shutdown",
        "backend",
        "timezone",
        "imports",
        "broker",
    }
)


def hint(option: str) -> str | None:
    """What to write instead of an option that has no counterpart in kiqpy."""
    if option in IN_MILLISECONDS:
        return f"did you mean {IN_MILLISECONDS[option]!r}, in seconds?"
    return HINTS.get(option)


def surely_meant(attribute: str) -> bool:
    """Whether an attribute of an App class must be meant as an option, by its name."""
    known = attribute in RENAMED or attribute in IN_MILLISECONDS or attribute in HINTS
    return known and attribute not in PLAIN_WORDS


# -- of workers and jobs

RENAMED_OPTIONS: Final = {
    "max_retries": "retry",
    "max_attempts": "retry",
    "retries": "retry",
    "max_retry_count": "retry",
    "retry_at": "backoff",
    "max_backoff": "backoff",
    "retry_backoff": "backoff",
    "unique_token": "unique_by",
    "failed_job_stacktrace_size": "backtrace",
    "retry_delay": "backoff",
    "default_retry_delay": "backoff",
    "max_tries": "retry",
    "job_timeout": "timeout",
    "max_age": "expires_in",
    "ttl": "expires_in",
    "actor_name": "name",
    "task_name": "name",
    "traceback": "backtrace",
    "queue_name": "queue",
    "time_limit": "timeout",
    "soft_time_limit": "timeout",
    "expires": "expires_in",
    "rate_limit": "max_concurrency",
}

_WHEN: Final = "say it when you enqueue: enqueue(job, in_=seconds) or enqueue(job, at=instant)"
_CLOCK: Final = 'an app enqueues by the clock: periodics = [Periodic("0 9 * * *", worker)]'

OPTION_HINTS: Final = {
    "priority": "the order of queues is their priority: queues = [QueueGroup([...])]",
    "unique": "say for how long: unique_for= (seconds, or a timedelta)",
    "countdown": _WHEN,
    "eta": _WHEN,
    "delay": _WHEN,
    "delay_for": _WHEN,
    "run_at": _WHEN,
    "schedule": _CLOCK,
    "cron": _CLOCK,
    "crontab": _CLOCK,
    "every": _CLOCK,
    "acks_late": "a job always stays in Redis until it has ended; a crash loses none",
    "autoretry_for": "every exception is retried; raise Discard or Kill for those that are not",
    "bind": "current_job() is the job that runs, everywhere inside it",
}

_WORDS_OF_ITS_OWN: Final = frozenset(
    {"bind", "delay", "every", "expires", "priority", "schedule", "traceback", "ttl", "unique"}
)


def surely_an_option(attribute: str) -> bool:
    """Whether an attribute of a worker's class must be meant as an option, by its name."""
    known = attribute in RENAMED_OPTIONS or attribute in OPTION_HINTS
    return known and attribute not in _WORDS_OF_ITS_OWN


# -- how other libraries enqueue a worker's job

_NOW: Final = "say `await WORKER.enqueue(...)`, or `app.enqueue_sync(WORKER.new(...))` in a script"
_LATER: Final = "say `await WORKER.using(in_=seconds).enqueue(...)`, or `at=` an aware datetime"

ENQUEUING: Final = {
    "delay": _NOW,
    "apply_async": _NOW,
    "kiq": _NOW,
    "kicker": _NOW,
    "perform_async": _NOW,
    "send": _NOW,
    "send_with_options": _NOW,
    "defer": _NOW,
    "defer_async": _NOW,
    "perform_in": _LATER,
    "perform_at": _LATER,
    "schedule": _LATER,
    "enqueue_in": _LATER,
    "enqueue_at": _LATER,
    "perform_later": _NOW,
}

"""Local jobs as an extension: a client before the client, a queue of their own, a gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from kiqpy._extensions.extension import Extension, Host, OwnQueue
from kiqpy._extensions.local.client import Local, LocalClient, LocalSettings
from kiqpy._extensions.local.journal import Journal, JournalSettings
from kiqpy._extensions.local.source import LocalQueue
from kiqpy._flow.once import Once
from kiqpy._intake.protocol import JobClient
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.gates import Gate
from kiqpy.errors import StoreError
from kiqpy.event import FetchFailed, JobEnqueued, JobFenced
from kiqpy.job import decode
from kiqpy.store import OutgoingJob


@final
class LocalJobs(Extension):
    """One queue for each that a local worker names."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._told = Once()
        self._queues = {name: self._make(name) for name in host.registry.local_queues()}

    def _make(self, queue: str) -> Local:
        host = self.host

        def on_error(error: StoreError) -> None:
            if self._told.first((queue, str(error))):
                host.bus.emit(FetchFailed(queue, str(error)))

        journal = Journal(
            store=host.store,
            queue=queue,
            clock=host.clock,
            settings=JournalSettings(host.config.flush_interval, host.config.buffer_limit),
            on_fenced=lambda: host.bus.emit(JobFenced(None, queue)),
            on_error=on_error,
        )
        return Local(LocalQueue(journal, host.clock, on_error), journal)

    def around_client(self, client: JobClient) -> JobClient:
        config = self.host.config
        return LocalClient(
            client=client,
            queues=self._queues,
            pipelines=lambda: self.host.pipelines,
            clock=self.host.clock,
            settings=LocalSettings(config.server, config.confirm_timeout, config.buffer_limit),
            tell=self._tell,
        )

    def _tell(self, outgoing: OutgoingJob, state: str) -> None:
        if self.host.bus.has_listeners(JobEnqueued):
            self.host.bus.emit(JobEnqueued(decode(outgoing.payload), state))

    def own_queues(self) -> Sequence[OwnQueue]:
        return [OwnQueue(queue, journal) for queue, journal in self._queues.values()]

    def gates(self, spec: Spec) -> Sequence[Gate]:
        """Not to wait, but to give the job its arguments as they were enqueued."""
        local = self._queues.get(spec.given.queue) if spec.given.local else None
        if local is None:
            return ()
        journal = local.journal

        def attach(run: Run) -> None:
            if run.job is not None and run.claim.queue == journal.queue:
                run.job.live = journal.live(run.claim)

        return (attach,)

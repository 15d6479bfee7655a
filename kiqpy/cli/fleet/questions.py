"""Questions that a supervisor asks its workers, such as `/ready`, and what it makes of the answers.

A question goes over a socket of its own, not over the link, because it is asked in another thread.
Stands on the standard library alone.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, Final, final

from kiqpy.cli.fleet.fleet import Fleet, WorkerProcess
from kiqpy.cli.fleet.listener import GetAnswer, HttpAnswer

_ANSWER_S: Final = 0.9  # all workers get so long together; a probe of Kubernetes waits for 1 s
_SILENT_S: Final = 60.0  # a worker whose answer takes longer is stuck
_MAX_UNANSWERED: Final = 8
_JSON: Final = "application/json"
QUESTIONS_FD: Final = "KIQPY_FLEET_QUESTIONS_FD"


@final
class AskingEnd:
    """The supervisor's end of the socket. One thread at a time."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair()
        self._connection: Connection[Any, Any] = Connection(near.detach())
        self._asked = 0
        self._answered = 0
        self._silent_since: float | None = None

    def silent_s(self) -> float:
        """For how long the oldest question has been open; 0.0: none is."""
        return 0.0 if self._silent_since is None else monotonic() - self._silent_since

    def ask(self, path: str) -> None:
        """Send a question, unless so many are open that the worker reads none any more."""
        if self._silent_since is None:
            self._silent_since = monotonic()
        if self._asked - self._answered < _MAX_UNANSWERED:
            self._asked += 1
            try:
                self._connection.send_bytes(f"{self._asked} {path}".encode())
            except OSError:
                pass  # it has ended: there will be no answer

    def answer(self, deadline: float) -> HttpAnswer | None:
        """The answer to the last question; None if it does not come in time."""
        try:
            while self._connection.poll(max(0.0, deadline - monotonic())):
                head, _, body = self._connection.recv_bytes().partition(b"\n")
                number, status, kind = head.decode().split(" ", 2)
                self._answered, self._silent_since = int(number), None
                if self._answered == self._asked:
                    return HttpAnswer(int(status), kind, body)
        except (OSError, EOFError):
            pass
        return None

    def close(self) -> None:
        self._connection.close()


def answer_questions(answer: GetAnswer) -> None:
    """A worker's end: answer in a thread of its own, until the supervisor ends.

    Does nothing in a process that was not started to be asked.
    """
    fd = os.environ.pop(QUESTIONS_FD, None)  # processes that jobs start must not find it
    if fd is None:
        return
    os.set_inheritable(int(fd), False)
    connection: Connection[Any, Any] = Connection(int(fd))

    def serve() -> None:
        try:
            while True:
                number, _, path = connection.recv_bytes().decode().partition(" ")
                said = answer(path)
                head = f"{number} {said.status} {said.kind}\n".encode()
                connection.send_bytes(head + said.body)
        except (OSError, EOFError):  # the supervisor has ended
            connection.close()

    threading.Thread(target=serve, name="kiqpy-answers", daemon=True).start()


@final
class FleetAnswers:
    """Answers for all workers of a fleet. Called in threads of requests, one at a time."""

    def __init__(self, fleet: Fleet, size: int) -> None:
        self.ends: dict[int, AskingEnd] = {}  # by pid
        self._fleet = fleet
        self._size = size
        self._lock = threading.Lock()

    def spawn(self, command: list[str], environment: dict[str, str]) -> int:
        """Start a worker that can be asked; its pid. Raises OSError."""
        end = AskingEnd()
        with end.far as far:
            far.set_inheritable(True)
            environment[QUESTIONS_FD] = str(far.fileno())
            try:
                pid = os.posix_spawn(command[0], command, environment)
            except OSError:
                end.close()
                raise
        self.ends[pid] = end
        return pid

    def drop(self, pid: int) -> None:
        """Ask it no more: it has ended."""
        end = self.ends.pop(pid, None)
        if end is not None:
            with self._lock:  # it may be asked just now
                end.close()

    def answer(self, path: str) -> HttpAnswer:
        """See `GetAnswer`."""
        with self._lock:
            answers = self._ask(path)
        return self._health(path, answers)

    def _ask(self, path: str) -> dict[WorkerProcess, HttpAnswer | None]:
        """What each worker says, all asked at the same time."""
        workers = list(self._fleet.workers.values())
        ends = {worker: self.ends[worker.pid] for worker in workers if worker.pid in self.ends}
        for end in ends.values():
            end.ask(path)
        deadline = monotonic() + _ANSWER_S
        return {worker: end.answer(deadline) for worker, end in ends.items()}

    def _health(self, path: str, answers: dict[WorkerProcess, HttpAnswer | None]) -> HttpAnswer:
        told = {worker: _report(answer) for worker, answer in answers.items()}
        live = all(self._is_live(worker, report) for worker, report in told.items())
        working = {w.slot for w, report in told.items() if _is_ready(w, report)}
        ready = live and not self._fleet.stopping and len(working) == self._size
        shown = {str(worker.pid): report for worker, report in told.items()}
        body = json.dumps({"live": live, "ready": ready, "workers": shown}).encode()
        return HttpAnswer(200 if (live if path == "/live" else ready) else 503, _JSON, body)

    def _is_live(self, worker: WorkerProcess, report: dict[str, Any] | None) -> bool:
        """One that is not up, or is stopping, is watched by the fleet itself."""
        if report is not None:
            return bool(report["live"])
        end = self.ends.get(worker.pid)
        if end is None or worker.up_at is None or worker.stopping:
            return True
        return end.silent_s() < _SILENT_S


def _is_ready(worker: WorkerProcess, report: dict[str, Any] | None) -> bool:
    up = worker.up_at is not None and not worker.stopping
    return up and report is not None and bool(report["ready"])


def _report(answer: HttpAnswer | None) -> dict[str, Any] | None:
    return None if answer is None or answer.kind != _JSON else json.loads(answer.body)

"""Child processes as their parent sees them: started, asked, killed. See `_child` for the rest."""

from __future__ import annotations

import atexit
import logging
import pickle
import signal
import threading
import warnings
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final, final

from kiqpy._flow.forks import forget_in_child
from kiqpy._rules.remote import ErrorReport, rebuilt
from kiqpy._stages._child import Reply, Request, Returned, Settings, serve
from kiqpy.errors import BrokenChild

_log = logging.getLogger("kiqpy")
_WITHIN_S: Final = 2.0
_NOT_READY: Final = (
    "{} before it was ready; it has written why to stderr. A child imports the script that started "
    'the app: what the script does must be below `if __name__ == "__main__":`'
)


@final
class Child:
    """One child process. All but `kill` blocks, and is called by one thread at a time."""

    def __init__(self) -> None:
        """Start it, and wait until it is ready. BrokenChild: it ended instead."""
        self.killed = False
        ours, theirs = get_context("spawn").Pipe()
        self._connection: Connection[Any, Any] = ours
        self._process = get_context("spawn").Process(
            target=serve, args=(theirs, _settings()), name="kiqpy-child"
        )
        self._process.start()
        theirs.close()
        try:
            self._reply()
        except BrokenChild as error:
            raise BrokenChild(_NOT_READY.format(error)) from None

    def ask(self, request: Request) -> Any:
        """What the job returns. Raises what it raises; BrokenChild if the child ends first."""
        try:
            self._connection.send_bytes(pickle.dumps(request))
        except OSError:
            raise self._broken() from None
        match self._reply():
            case Returned(result, lost):
                if lost:
                    _log.warning("what a job returned is dropped, it can't be pickled: %s", lost)
                return result
            case ErrorReport() as told:
                raise rebuilt(told)
            case _:
                raise BrokenChild("a child process gave an answer that is none")

    def _reply(self) -> Reply:
        """The next answer; log records that come before it are logged here."""
        while True:
            try:
                packed = self._connection.recv_bytes()
            except (EOFError, OSError):
                raise self._broken() from None
            reply = _loaded(packed)
            if not isinstance(reply, logging.LogRecord):
                return reply
            logger = logging.getLogger(reply.name)
            if logger.isEnabledFor(reply.levelno):
                logger.handle(reply)

    def _broken(self) -> BrokenChild:
        self._process.join(_WITHIN_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            return BrokenChild(f"the child process of the job was ended by {_signal_name(-code)}")
        return BrokenChild(f"the child process of the job ended with exit code {code}")

    @property
    def alive(self) -> bool:
        """Whether it can take another job."""
        return not self.killed and self._process.is_alive()

    def kill(self) -> None:
        """End it at once. Idempotent, from any thread."""
        self.killed = True
        self._process.kill()

    def close(self) -> None:
        """Kill it, and free what it uses here."""
        self.kill()
        self._process.join(_WITHIN_S)  # a killed process ends within milliseconds
        self._connection.close()


def _loaded(packed: bytes) -> Reply:
    try:
        reply: Reply = pickle.loads(packed)
    except BaseException as error:  # user code; what failed is never pickled as it was
        return Returned(None, lost=f"{type(error).__name__}: {error}")
    return reply


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _settings() -> Settings:
    loggers = logging.root.manager.loggerDict
    levels = {n: it.level for n, it in loggers.items() if isinstance(it, logging.Logger)}
    captures = getattr(warnings.showwarning, "__module__", "") == "logging"
    return Settings({"": logging.root.level} | {n: it for n, it in levels.items() if it}, captures)


@final
class Children:
    """The idle children, last used first. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._closed = False
        atexit.register(self.close)  # before multiprocessing waits for children, as it does there
        forget_in_child(self._forget)

    def _forget(self) -> None:
        """In a forked child: they are the parent's, and its exit must not kill them."""
        atexit.unregister(self.close)
        self._lock = threading.Lock()
        self._closed = True
        self._idle.clear()
        self._all.clear()

    def take(self) -> Child:
        """An idle child, or a new one."""
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                break
            if child.alive:
                return child
            self._drop(child)
        return self._start()

    def _start(self) -> Child:
        child = Child()
        with self._lock:
            self._all.add(child)
            closed = self._closed
        if closed:
            self._drop(child)
            raise BrokenChild("the app is stopping: no child process is started any more")
        return child

    def give_back(self, child: Child) -> None:
        """Let others use it, if it can be used."""
        with self._lock:
            if child.alive and not self._closed:
                self._idle.append(child)
                return
        self._drop(child)

    def _drop(self, child: Child) -> None:
        with self._lock:
            self._all.discard(child)
        child.close()

    def close(self) -> None:
        """Kill all. Idempotent."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            children, self._all = self._all, set[Child]()
            self._idle.clear()
        for child in children:
            child.kill()  # whoever asks it finds that out, and it is waited for there

"""What `enqueue` returns: the id of the job, and how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Literal, final

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Result = TypeVar("Result", covariant=True, default=Any)
else:
    from typing import TypeVar

    Result = TypeVar("Result", covariant=True)

ReceiptState = Literal["queued", "scheduled", "buffered", "duplicate", "halted"]


@final
class Receipt(Generic[Result]):
    """The id of an enqueued job, and how far it has come. `Result`: what its worker returns.

    `jid`: 24 hex digits, unless you chose another. `state`:
    `queued`, `scheduled`: the job is in Redis, exactly once.
    `buffered`: the job is in this process's memory, which sends it to Redis, or runs it itself.
    `duplicate`: an equal unique job exists, whose id is `jid`; nothing was enqueued.
    `halted`: a client middleware has dropped the job; nothing was enqueued.
    """

    __slots__ = ("jid", "state")

    def __init__(self, jid: str, state: ReceiptState) -> None:
        self.jid: Final = jid
        self.state: Final = state

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Receipt):
            return NotImplemented
        return self.jid == other.jid and self.state == other.state

    def __hash__(self) -> int:
        return hash((self.jid, self.state))

    def __repr__(self) -> str:
        return f"Receipt(jid={self.jid!r}, state={self.state!r})"

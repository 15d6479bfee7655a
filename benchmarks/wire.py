"""A minimal Redis client for the measuring itself. Standard library only."""

from __future__ import annotations

import socket
from urllib.parse import unquote, urlsplit


def ask(url: str, *words: str | int) -> bytes:
    """One command on a connection of its own; a status, number or text reply as bytes."""
    with _connect(url) as link:
        parts = [str(word).encode() for word in words]
        frame = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        link.sendall(b"*%d\r\n%s" % (len(parts), frame))
        with link.makefile("rb") as reply:
            head = reply.readline().rstrip()
            if head[:1] == b"-":
                raise RuntimeError(head[1:].decode())
            return reply.read(int(head[1:])) if head[:1] == b"$" else head[1:]


def _connect(url: str) -> socket.socket:
    where = urlsplit(url)
    if where.scheme != "unix":
        return socket.create_connection((where.hostname or "127.0.0.1", where.port or 6379), 30)
    link = socket.socket(socket.AF_UNIX)
    link.connect(unquote(where.path))
    return link


def info(url: str) -> dict[str, str]:
    """All fields of INFO ALL."""
    lines = ask(url, "INFO", "ALL").decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def commands(fields: dict[str, str]) -> int:
    """How many commands were called so far, those inside scripts too, without our own INFO."""
    stats = {name[8:]: text for name, text in fields.items() if name.startswith("cmdstat_")}
    counted = (text for name, text in stats.items() if name != "info")
    return sum(int(text.split("calls=")[1].split(",")[0]) for text in counted)


def held(fields: dict[str, str]) -> int:
    """Bytes the server takes for data, with all that keeping it costs, without its clients'."""
    return int(fields["used_memory"]) - int(fields["mem_clients_normal"])


def cpu_s(fields: dict[str, str]) -> float:
    """CPU seconds of the server so far, user and system."""
    return float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])

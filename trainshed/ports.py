"""TCP ports: whether one is free, and a free one that is remembered."""

import socket
from pathlib import Path

from trainshed.errors import PortTaken


def require_free(host: str, port: int, option: str) -> None:
    """Raises PortTaken, naming the option that changes the port."""
    if problem := _problem(host, port):
        raise PortTaken(host, port, option, problem)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket(_family(host)) as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def remembered_port(file: Path, host: str = "127.0.0.1") -> int:
    """The port in the file, or a new one, written there, if there is none or somebody else took it."""
    if file.exists():
        text = file.read_text(encoding="utf-8").strip()
        if text.isdecimal() and not _problem(host, int(text)):
            return int(text)
    port = free_port(host)
    file.write_text(f"{port}\n", encoding="utf-8")
    return port


def _problem(host: str, port: int) -> str | None:
    try:
        with socket.socket(_family(host)) as listener:
            # As servers do: connections of an earlier run that still fade out are no hindrance.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

"""Server-sent events, read from bytes as they come.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from trainshed.answers import StreamEvent

KNOWN = frozenset({"state", "epoch", "progress", "done", "deleted"})


@dataclass(frozen=True, slots=True)
class Message:
    """One event of a stream."""

    event: str
    data: str


class Reader:
    """Cuts a stream into messages; comments and unknown fields are passed over."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """Where to go on from after this stream: an id counts without data, too."""
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The messages that are whole with this chunk."""
        # Not str.splitlines: a text inside the JSON may hold what Python takes for the end of a line.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if text := line.rstrip(b"\r").decode(errors="replace"):
                self._take(text)
                continue
            fields, self._fields = self._fields, {}
            self.last_id = fields.get("id", self.last_id)
            if "data" in fields:
                yield Message(fields.get("event", "message"), fields["data"])

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in self._fields:
            value = f"{self._fields['data']}\n{value}"
        self._fields[name] = value


def stream_event(message: Message) -> StreamEvent | None:
    """The event of a job's stream; None for a kind that this client does not know."""
    if message.event not in KNOWN:
        return None
    return cast(StreamEvent, {"event": message.event} | json.loads(message.data))

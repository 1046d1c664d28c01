"""What the API, the workers and the reconciler agree on about the doorbell; plain data, no broker library."""

from typing import Any, Final

KEY_PREFIX: Final = "trainshed:"
TRAIN_QUEUE: Final = "train"
HOUSEKEEPING_QUEUE: Final = "housekeeping"
# A queue of their own: somebody waits for a prediction, and a ring for it wakes nothing else.
PREDICTION_QUEUE: Final = "predictions"
# Tasks by queue. None takes an argument: a message says "look in SQL" and nothing more.
TASKS: Final = {
    TRAIN_QUEUE: "worker.train",
    HOUSEKEEPING_QUEUE: "worker.housekeep",
    PREDICTION_QUEUE: "worker.predict",
}

WORKER_TRANSPORT: Final[dict[str, Any]] = {
    "global_keyprefix": KEY_PREFIX,
    # Without a limit a send on a dead connection waits for ever. It must exceed the 1 s of BRPOP.
    "socket_timeout": 5,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    # Finds a connection whose other end is gone without a word within 2 x 25 s.
    "health_check_interval": 25,
}

RING_TRANSPORT: Final[dict[str, Any]] = {
    "global_keyprefix": KEY_PREFIX,
    # A ring is a bounded try: a submit is answered within a second or two while the broker is away.
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    "max_retries": 0,
}

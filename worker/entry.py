"""Where a trainer process begins. TensorFlow is imported below, after the process has been set up for it."""

import gc
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from worker.events import STOP, Device, Event, PredictRequest, decode_order, decode_request
from worker.outbox import Outbox

WARM, COLD = b"warm", b"cold"
SUPERVISOR_IS_GONE = 70
"""EX_SOFTWARE of sysexits.h: the exit code of a trainer whose pipe was closed."""


class Line:
    """The trainer's end of the pipe: events go out, requests and the wish to stop come in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._outbox = Outbox(self._send)
        self._stop = threading.Event()
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._is_over = False

    @property
    def stop_wanted(self) -> bool:
        """Whether the supervisor, or SIGTERM, asked to stop."""
        return self._stop.is_set()

    def ask_to_stop(self) -> None:
        """Stop at the next chunk, or instead of the next request."""
        self._stop.set()
        self._requests.put(None)

    def next_request(self) -> PredictRequest | None:
        """Wait for a request; None if a stop was asked for."""
        message = self._requests.get()
        return None if message is None else decode_request(message)

    def send(self, event: Event) -> None:
        """Tell the supervisor, soon and in order; returns at once."""
        self._outbox.put(event)

    def _send(self, message: bytes) -> None:
        try:
            self._connection.send_bytes(message)
        except OSError:
            # A trainer that nobody listens to ends at once.
            os._exit(SUPERVISOR_IS_GONE)

    def send_last(self, verdict: Event) -> None:
        """Send the verdict and end the process at once; clean-up by libraries could only hang."""
        self._is_over = True
        self.send(verdict)
        self._outbox.drain()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def listen(self) -> None:
        """Obey commands until the supervisor dies, then die too.

        A death signal from the kernel would not do: the parent of this process is the forkserver.
        """
        while True:
            try:
                message = self._connection.recv_bytes()
            except (EOFError, OSError):
                os._exit(0 if self._is_over else SUPERVISOR_IS_GONE)
            if message == STOP:
                self.ask_to_stop()
            else:
                self._requests.put(message)


def main(connection: Connection, log: Connection, order: bytes) -> None:
    """Carry out one order, then end the process; the verdict is the last event on the pipe."""
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    log.close()
    # What the forkserver imported stays: each full collection would look at all of it, for half a second.
    gc.freeze()
    wanted = decode_order(order)
    choose_device(wanted.device)
    line = Line(connection)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: line.ask_to_stop())
    threading.Thread(target=line.listen, name="control", daemon=True).start()
    preloaded = "tensorflow" in sys.modules

    from worker.training import trainer

    line.send_last(trainer.carry_out(wanted, line, tensorflow_preloaded=preloaded))


def probe(connection: Connection) -> None:
    """Tell whether a process that starts here finds TensorFlow imported."""
    connection.send_bytes(WARM if "tensorflow" in sys.modules else COLD)


def choose_device(device: Device) -> None:
    """Set what TensorFlow reads from the environment when it first looks for devices."""
    is_gpu = device.kind == "gpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = str(device.index or 0) if is_gpu else ""
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

"""Trainer processes: forked from a forkserver that has TensorFlow imported, one fresh process an order."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from worker import entry
from worker.events import STOP, Event, Order, PredictRequest, decode_all, encode_order, encode_request
from worker.log_lines import LogLines

# Modules of a trainer, imported once in the forkserver. A name that does not exist is passed over in silence.
PRELOAD = ["tensorflow", "keras", "worker.training.trainer"]
LARGEST_LOG = 1_000_000
EXIT_CODE_SECONDS = 5.0
# Variables that the forkserver and its trainers may know; secrets are not among them.
KEPT_VARIABLES = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE",
)  # fmt: skip
KEPT_PREFIXES = ("TF_", "XLA_", "CUDA_", "NVIDIA_", "KERAS_", "OMP_")

log = logging.getLogger(__name__)


def scrub_environment() -> None:
    """Leave nothing secret in this process's environment, which the forkserver and its trainers inherit."""
    for name in list(os.environ):
        if name not in KEPT_VARIABLES and not name.startswith(KEPT_PREFIXES):
            del os.environ[name]
    # Sets of strings are walked in the same order in each run.
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


class Trainer:
    """One trainer process, seen from its supervisor."""

    def __init__(self, process: BaseProcess, pipe: Connection, output: Connection, log_path: Path) -> None:
        self._process = process
        self._pipe = pipe
        self._output = output
        self._log_path = log_path
        self._lines = LogLines()
        self._logged = 0
        self._open: list[Connection] = [pipe, output]
        # A request may be larger than the pipe, and a process that hangs does not read it.
        self._sender = ThreadPoolExecutor(1)
        # Not multiprocessing's sentinel: when the forkserver dies, that says the trainer had ended.
        self._life = _open_life(process.pid)

    def events(self, seconds: float) -> list[Event]:
        """All that it said, after waiting so many seconds for the first of it; its output goes to its log."""
        said: list[Event] = []
        while ready := wait(self._watched(), 0 if said else seconds):
            if self._pipe in ready:
                said.extend(self._receive())
            if self._output in ready:
                self._copy_output()
            if ready == [self._life] or not said:
                break
        return said

    def _watched(self) -> list[Connection | int]:
        return [*self._open, *([] if self._life is None else [self._life])]

    def _receive(self) -> list[Event]:
        try:
            return decode_all(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self._open.remove(self._pipe)
            return []

    def _copy_output(self) -> None:
        data = os.read(self._output.fileno(), 65536)
        if not data:
            self._open.remove(self._output)
        self._log(self._lines.take(data))

    def _log(self, data: bytes) -> None:
        if not data:
            return
        room = LARGEST_LOG - self._logged
        if room > 0:
            # The folder went with its job if that was deleted meanwhile.
            with suppress(FileNotFoundError), self._log_path.open("ab") as file:
                file.write(data[:room])
                if len(data) >= room:
                    file.write(f"\n[the log ends here: it reached {LARGEST_LOG} bytes]\n".encode())
        self._logged += len(data)

    @property
    def is_gone(self) -> bool:
        """Whether the process ended and all that it said was read."""
        return self.has_ended and self._pipe not in self._open

    @property
    def has_ended(self) -> bool:
        """Whether the process ended; something that it said may be unread."""
        return self._life is None or bool(wait([self._life], 0))

    @property
    def end(self) -> str:
        """How the process ended, for people."""
        if self.has_ended:
            # The forkserver tells the exit code a moment later.
            self._process.join(EXIT_CODE_SECONDS)
        code = self._process.exitcode
        if code is None:
            return "still running"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def ask_to_stop(self) -> None:
        """It stops at the next chunk and says so."""
        try:
            self._pipe.send_bytes(STOP)
        except OSError:
            # It ended meanwhile, which the next look at it tells.
            return

    def request(self, request: PredictRequest) -> None:
        """Ask a trainer with a predict order; it answers with a Predicted event. Returns at once."""
        self._sender.submit(self._send, encode_request(request))

    def _send(self, data: bytes) -> None:
        # As above.
        with suppress(OSError):
            self._pipe.send_bytes(data)

    def kill(self) -> None:
        """End it at once."""
        if self._life is not None and not self.has_ended:
            signal.pidfd_send_signal(self._life, signal.SIGKILL)

    def close(self) -> None:
        """End it if it runs, and reap it."""
        self.kill()
        if self._life is not None:
            wait([self._life])
            os.close(self._life)
            self._life = None
        self._sender.shutdown()
        self._process.join()
        while self._output in self._open and self._output.poll():
            self._copy_output()
        self._pipe.close()
        self._output.close()
        self._process.close()


def _open_life(pid: int | None) -> int | None:
    """A descriptor of the process itself, readable once it has ended; None if it has ended already."""
    try:
        return None if pid is None else os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _context(start_method: str) -> ForkServerContext | SpawnContext:
    if start_method == "spawn":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


class Trainers:
    """Starts trainers, and knows whether they start warm."""

    def __init__(self, start_method: str) -> None:
        self._context = _context(start_method)
        # multiprocessing keeps its list of children without a lock.
        self._starting = threading.Lock()

    def warm_up(self) -> bool:
        """Start the forkserver, and a process that tells whether TensorFlow was there; takes 10-15 s."""
        mine, theirs = self._context.Pipe()
        process = self._launched(entry.probe, theirs)
        theirs.close()
        try:
            return bool(mine.recv_bytes() == entry.WARM)
        except EOFError:
            return False
        finally:
            process.join()
            mine.close()

    def _launched(self, target: Callable[..., None], *arguments: Any) -> BaseProcess:
        with self._starting:
            try:
                return self._launch(target, arguments)
            except (EOFError, ConnectionError):
                # The forkserver died while it was asked; whoever asks next gets a new one.
                return self._launch(target, arguments)

    def _launch(self, target: Callable[..., None], arguments: tuple[Any, ...]) -> BaseProcess:
        process = self._context.Process(target=target, args=arguments, daemon=True)
        process.start()
        return process

    @contextmanager
    def start(self, order: Order, log_path: Path) -> Iterator[Trainer]:
        """A trainer at work on an order; whatever happens, its process is gone afterwards.

        Makes the log's folder.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        trainer = self.open(order, log_path)
        try:
            yield trainer
        finally:
            trainer.close()

    def open(self, order: Order, log_path: Path) -> Trainer:
        """A trainer at work on an order; the caller closes it. Makes no folder for its log."""
        mine, theirs = self._context.Pipe()
        output, its_output = self._context.Pipe(duplex=False)
        process = self._launched(entry.main, theirs, its_output, encode_order(order))
        # Held open here, they would hide the trainer's end from the reads above.
        theirs.close()
        its_output.close()
        return Trainer(process, mine, output, log_path)

"""`trainshed up`: the whole service as children of one foreground process."""

import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import httpx

from trainshed.checkout import check_python, find_checkout, package_parent
from trainshed.children import Child, Command
from trainshed.client import Client
from trainshed.errors import StepFailed
from trainshed.home import Home
from trainshed.log import Log
from trainshed.ports import remembered_port, require_free
from trainshed.processes import Register, end, process, read_register
from trainshed.roster import Options, Roster
from trainshed.settings import default_home, inherited
from trainshed.warden import ALL_ENDED

TICK = 0.1  # seconds between two looks at the children
GRACE = 10.0  # seconds from SIGTERM to SIGKILL
VALKEY_GRACE = 3.0
TOO_MANY_FAILURES = 5  # ends in a row of one child before the stack was ever ready
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(options: Options, *, colours: bool = False) -> None:
    """Runs the stack until Ctrl-C or SIGTERM. Raises StackError."""
    checkout = find_checkout(options.checkout)
    check_python(checkout)
    home = Home(options.home.absolute())
    home.prepare()
    with home.locked(), _wish_to_end(options) as is_wished, _log(home, colours) as log:
        _end_leftovers(home, log)
        require_free(options.host, options.port, "--port")
        require_free(options.host, options.mlflow_port, "--mlflow-port")
        roster = Roster(options, home, checkout, remembered_port(home.valkey / "port"))
        Stack(options, home, roster, log, is_wished).run()


class Stack:
    """The processes that run."""

    def __init__(
        self, options: Options, home: Home, roster: Roster, log: Log, is_end_wished: Callable[[], bool]
    ) -> None:
        self._options = options
        self._home = home
        self._roster = roster
        self._log = log
        self._is_end_wished = is_end_wished
        self._children: list[Child] = []
        self._me = process(os.getpid())

    def run(self) -> None:
        """Starts all, waits until a job could start, keeps all alive until the end is wished, ends all."""
        with self._warden():
            try:
                self._start()
                if not self._is_end_wished():
                    with self._client() as client:
                        self._keep_until_ready(client)
                self._keep()
            finally:
                self._end()

    def _start(self) -> None:
        # MLflow takes longest and needs nobody; the others wait for the database.
        self._add(self._roster.valkey())
        self._add(self._roster.mlflow())
        self._step(self._roster.migrations())
        self._step(self._roster.key())
        for command in (self._roster.api(), self._roster.train(), self._roster.housekeeping()):
            if not self._is_end_wished():
                self._add(command)
        self._home.announce(self._options.url)

    def _add(self, command: Command) -> None:
        child = Child(command, self._log)
        self._children.append(child)
        child.start()
        self._register()

    def _step(self, command: Command) -> None:
        if self._is_end_wished():
            return
        self._add(command)
        child = self._children[-1]
        while (code := child.exit_code()) is None and not self._is_end_wished():
            time.sleep(0.02)
        if code is not None:
            self._children.remove(child)
            child.end(time.monotonic())
            self._register()
        if code:
            raise StepFailed(child.name, code, self._home.log)

    def _client(self) -> Client:
        return Client(self._options.url, self._home.key.read_text(encoding="utf-8").strip(), timeout=2)

    def _keep_until_ready(self, client: Client) -> None:
        waiting_for = ""
        while not self._is_end_wished():
            self._revive()
            self._give_up_if_hopeless()
            missing = client.missing()
            if missing is None:
                self._log.say(self._welcome())
                return
            if missing != waiting_for:
                self._log.say(f"waiting for {missing}")
                waiting_for = missing
            time.sleep(TICK)

    def _keep(self) -> None:
        while not self._is_end_wished():
            self._revive()
            time.sleep(TICK)

    def _revive(self) -> None:
        revived = [child.revive() for child in self._children]
        if any(revived):
            self._register()

    def _give_up_if_hopeless(self) -> None:
        for child in self._children:
            if child.failures >= TOO_MANY_FAILURES:
                raise StepFailed(child.name, child.exit_code() or 0, self._home.log, child.failures)

    def _end(self) -> None:
        """Everybody but Valkey first: workers hand their jobs back, and say so, while they can still ring."""
        self._log.say("Stopping.")
        self._home.address.unlink(missing_ok=True)
        others = [child for child in self._children if child.name != "valkey"]
        self._end_together(others, GRACE)
        self._end_together([child for child in self._children if child not in others], VALKEY_GRACE)
        self._home.pids.unlink(missing_ok=True)
        self._log.say("Stopped.")

    def _end_together(self, children: list[Child], grace: float) -> None:
        give_up_at = time.monotonic() + grace
        for child in children:
            child.ask_to_end()
        for child in children:
            child.end(give_up_at)

    def _register(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        Register(self._me, running).write(self._home.pids)

    @contextmanager
    def _warden(self) -> Iterator[None]:
        arguments = [sys.executable, "-m", "trainshed.warden", str(self._home.pids)]
        warden = subprocess.Popen(
            [*arguments, str(self._me.pid), self._me.born],
            stdin=subprocess.PIPE,
            env=inherited() | {"PYTHONPATH": str(package_parent())},
            start_new_session=True,
        )
        try:
            yield
        finally:
            with suppress(BrokenPipeError):
                warden.communicate(ALL_ENDED)

    def _welcome(self) -> str:
        options = self._options
        started = "" if _answers(options.mlflow_url) else "  (still starting)"
        lines = [
            "",
            "Trainshed is ready.",
            f"  API      {options.public_url}",
            f"  MLflow   {options.mlflow_public_url}{started}",
            f"  key      {self._home.key}",
            f"  home     {self._home.root}",
            f"  log      {self._home.log}",
        ]
        if not options.is_local:
            lines.append(
                f"  MLflow asks for no key: who reaches port {options.mlflow_port} can read and change runs."
            )
        if self._home.root != default_home():
            lines.append(f"In other terminals: export TRAINSHED_HOME={shlex.quote(str(self._home.root))}")
        lines += ["Stop it with Ctrl-C. Next: trainshed submit examples/fashion_mnist.yaml --watch", ""]
        return "\n".join(lines)


@contextmanager
def _wish_to_end(options: Options) -> Iterator[Callable[[], bool]]:
    wishes: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        wishes.append(number)

    before = {number: signal.signal(number, note) for number in ENDING_SIGNALS}
    try:
        yield lambda: bool(wishes) or (options.while_stdin_open and _is_stdin_at_its_end())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_stdin_at_its_end() -> bool:
    # Nothing is ever written to it: it becomes readable when its other end is closed.
    return bool(select.select([sys.stdin], [], [], 0)[0])


@contextmanager
def _log(home: Home, colours: bool) -> Iterator[Log]:
    log = Log(home.log, colours=colours)
    try:
        yield log
    finally:
        log.close()


def _end_leftovers(home: Home, log: Log) -> None:
    home.address.unlink(missing_ok=True)
    register = read_register(home.pids)
    if register is None:
        return
    ended = end(register.children, grace=GRACE)
    if ended:
        log.say(f"Ended {len(ended)} processes that an earlier `up` left behind.")
    home.pids.unlink(missing_ok=True)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False

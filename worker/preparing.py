"""Fetching one dataset of the catalogue, in a child process with limits.

The child, `python -m worker.preparing NAME --root ARTIFACT_ROOT`, prints one JSON object a line:
`source` for each source that it asked, then `ready` (exit status 0) or `rejected` (1).
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from services.catalogue import CATALOGUE, CatalogueEntry
from services.schema import DatasetSchema

if TYPE_CHECKING:
    from worker.sources.material import Material

MEMORY_BYTES: Final = 4 * 2**30
CPU_SECONDS: Final = 600
# More than the sum of what the sources of one dataset may take.
PATIENCE_SECONDS: Final = 1200.0


@dataclass(frozen=True)
class SourceTried:
    """A source that was asked; `why` says why it failed, None if it gave the data."""

    name: str
    why: str | None


@dataclass(frozen=True)
class Ready:
    """The dataset is stored under the artifact root as the version `sha256`."""

    sha256: str
    schema: DatasetSchema
    sources: tuple[SourceTried, ...]


@dataclass(frozen=True)
class Rejected:
    """The dataset could not be had; `problem` names every source that was asked and why it failed."""

    problem: str
    sources: tuple[SourceTried, ...]


def prepare(name: str, root: Path, *, environment: Mapping[str, str] | None = None) -> Ready | Rejected:
    """Run the child to its end. It dies with this process. `environment` is its own; None: this process's."""
    command = [
        sys.executable,
        "-m",
        "worker.preparing",
        name,
        "--root",
        str(root.absolute()),
        "--with-parent",
    ]
    with _lifeline() as stdin:
        child = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[1],
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            stdout, stderr = child.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            stdout, _ = child.communicate()
            stderr = f"it was not done after {PATIENCE_SECONDS:.0f} s"
    return _verdict(name, stdout, stderr, child.returncode)


@contextmanager
def _lifeline() -> Iterator[int]:
    """The reading end of a pipe that ends when this process does, however it does."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _verdict(name: str, stdout: str, stderr: str, status: int) -> Ready | Rejected:
    events = [json.loads(line) for line in stdout.splitlines(keepends=True) if line.endswith("\n")]
    sources = tuple(
        SourceTried(event["name"], event["why"]) for event in events if event["event"] == "source"
    )
    match events[-1:]:
        case [{"event": "ready", "sha256": sha256, "schema": schema}]:
            return Ready(sha256, DatasetSchema.model_validate(schema), sources)
        case [{"event": "rejected", "problem": problem}]:
            return Rejected(problem, sources)
    return Rejected(_sudden_end(name, stderr, status), sources)


def _sudden_end(name: str, stderr: str, status: int) -> str:
    last_line = (stderr.strip().splitlines() or ["it said nothing"])[-1]
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"Preparing {name} ended with {how}: {last_line}."


def main(arguments: Sequence[str] | None = None) -> int:
    """The child."""
    parser = argparse.ArgumentParser(prog="python -m worker.preparing", description=prepare.__doc__)
    parser.add_argument("name", choices=sorted(CATALOGUE))
    parser.add_argument("--root", type=Path, required=True, help="the artifact root")
    parser.add_argument(
        "--with-parent", action="store_true", help="end, programs called included, when stdin ends"
    )
    options = parser.parse_args(arguments)
    if options.with_parent:
        Thread(target=_end_with_stdin, daemon=True).start()
    _limit_resources()
    return _prepare_here(CATALOGUE[options.name], options.root)


def _prepare_here(entry: CatalogueEntry, root: Path) -> int:
    # Imported here: only the child may load NumPy and scikit-learn.
    from worker.sources.gathering import gather
    from worker.versions import SchemaMismatch, store_version, with_target_range

    failures = []

    def tried(source: str, why: str | None) -> None:
        _tell("source", name=source, ok=why is None, why=why)
        if why is not None:
            failures.append(f"{source}: {why}")

    material = gather(entry.name, root / "sources" / entry.name, tried)
    if material is None:
        return _reject(f"No source has {entry.name}. {' '.join(failures)}")
    if differences := _differences_in_names(entry.schema, material):
        return _reject(f"{entry.name} is not as the catalogue says: {' '.join(differences)}")
    schema = with_target_range(entry.schema, material.arrays)
    try:
        sha256 = store_version(root, schema, material.arrays)
    except SchemaMismatch as mismatch:
        return _reject(f"{entry.name} is not as the catalogue says: {mismatch}")
    _tell("ready", sha256=sha256, schema=schema.model_dump(mode="json"))
    return 0


def _differences_in_names(schema: DatasetSchema, material: "Material") -> list[str]:
    pairs = [
        ("features", material.feature_names, schema.features.names),
        ("classes", material.class_names, schema.target.class_names),
    ]
    return [
        f"its {what} are named {found}, expected {expected}."
        for what, found, expected in pairs
        if found is not None and found != expected
    ]


def _reject(problem: str) -> int:
    _tell("rejected", problem=problem)
    return 1


def _tell(event: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def _end_with_stdin() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)


def _limit_resources() -> None:
    """Soft limits only: a program that this child calls may lift them with a reason."""
    for kind, limit in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_SECONDS)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    # On a machine with many cores the buffers of OpenBLAS's threads alone would reach the limit.
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")


if __name__ == "__main__":
    sys.exit(main())

"""Fetching one dataset of the catalogue, in a child process with limits.

The child, `python -m worker.preparing NAME --root ARTIFACT_ROOT`, prints one JSON object a line:
`source` for each source that it asked, then `ready` (exit status 0) or `rejected` (1).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.catalogue import CATALOGUE, CatalogueEntry
from services.schema import DatasetSchema
from worker.limited import Ended, enter, run_limited, tell

if TYPE_CHECKING:
    from worker.sources.material import Material

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
    statistics: dict[str, Any]
    """services.answers.DatasetStatistics as JSON."""


@dataclass(frozen=True)
class Rejected:
    """The dataset could not be had; `problem` names every source that was asked and why it failed."""

    problem: str
    sources: tuple[SourceTried, ...]


def prepare(name: str, root: Path, *, environment: Mapping[str, str] | None = None) -> Ready | Rejected:
    """Run the child to its end. It dies with this process. `environment` is its own; None: this process's."""
    ended = run_limited(
        "worker.preparing",
        [name, "--root", str(root.absolute())],
        patience_seconds=PATIENCE_SECONDS,
        environment=environment,
    )
    return _verdict(name, ended)


def _verdict(name: str, ended: Ended) -> Ready | Rejected:
    sources = tuple(
        SourceTried(event["name"], event["why"]) for event in ended.told if event["event"] == "source"
    )
    match ended.told[-1:]:
        case [{"event": "ready", "sha256": sha256, "schema": schema, "statistics": statistics}]:
            return Ready(sha256, DatasetSchema.model_validate(schema), sources, statistics)
        case [{"event": "rejected", "problem": problem}]:
            return Rejected(problem, sources)
    return Rejected(f"Preparing {name} ended with {ended.how}.", sources)


def main(arguments: Sequence[str] | None = None) -> int:
    """The child."""
    parser = argparse.ArgumentParser(prog="python -m worker.preparing", description=prepare.__doc__)
    parser.add_argument("name", choices=sorted(CATALOGUE))
    parser.add_argument("--root", type=Path, required=True, help="the artifact root")
    parser.add_argument(
        "--with-parent", action="store_true", help="end, programs called included, when stdin ends"
    )
    options = parser.parse_args(arguments)
    enter(with_parent=options.with_parent)
    return _prepare_here(CATALOGUE[options.name], options.root)


def _prepare_here(entry: CatalogueEntry, root: Path) -> int:
    # Imported here: only the child may load NumPy and scikit-learn.
    from worker.sources.gathering import gather
    from worker.tables.statistics import statistics_of
    from worker.versions import SchemaMismatch, store_version, with_target_range

    failures = []

    def tried(source: str, why: str | None) -> None:
        tell("source", name=source, ok=why is None, why=why)
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
    statistics = statistics_of(schema, material.train_x, material.train_y)
    tell(
        "ready",
        sha256=sha256,
        schema=schema.model_dump(mode="json"),
        statistics=statistics.model_dump(mode="json"),
    )
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
    tell("rejected", problem=problem)
    return 1


if __name__ == "__main__":
    sys.exit(main())

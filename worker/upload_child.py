"""Reading one upload into a dataset version, in a child process with limits.

The child, `python -m worker.upload_child ORDER`, prints one JSON object: `ready`, or `rejected` with
problems.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.answers import DataProblem
from services.meta import UploadMeta
from services.schema import DatasetSchema
from worker.limited import follow_order, run_order, tell

PATIENCE_SECONDS: Final = 1200.0
# Schema, statistics and warnings are read by the API with each look at the dataset.
LARGEST_DESCRIPTION: Final = 8_000_000
Json = dict[str, Any]


@dataclass(frozen=True)
class Accepted:
    """The version is stored; statistics and warnings as services.answers has them, as JSON."""

    sha256: str
    schema: DatasetSchema
    statistics: Json
    warnings: list[Json]


@dataclass(frozen=True)
class Refused:
    """What is wrong with the files; services.answers.DataProblem as JSON."""

    problems: list[Json]
    warnings: list[Json]


@dataclass(frozen=True)
class Died:
    """The child ended without a verdict."""

    how: str
    would_die_again: bool


def read_files(
    root: Path, folder: Path, meta: UploadMeta, names: Mapping[str, str]
) -> Accepted | Refused | Died:
    """Run the child on the files in `folder`, which are named by their form fields, as `names` is."""
    order = {
        "root": str(root.absolute()),
        "folder": str(folder.absolute()),
        "meta": meta.model_dump(mode="json"),
        "names": dict(names),
    }
    ended = run_order("worker.upload_child", folder / "order.json", order, patience_seconds=PATIENCE_SECONDS)
    match ended.told[-1:]:
        case [{"event": "ready", "schema": schema, **facts}]:
            return Accepted(schema=DatasetSchema.model_validate(schema), **facts)
        case [{"event": "rejected", "problems": problems, "warnings": warnings}]:
            return Refused(problems, warnings)
    return Died(ended.how, ended.ran_out_of_time)


def main(arguments: Sequence[str] | None = None) -> int:
    """The child."""
    return follow_order("worker.upload_child", _read, arguments)


def _read(order: Json) -> int:
    # Imported here: only the child may load NumPy.
    from worker.tables.findings import FileRefused, Findings
    from worker.tables.reading import SentFile, read_upload
    from worker.versions import store_version

    findings = Findings()
    files = {field: SentFile(Path(order["folder"]) / field, name) for field, name in order["names"].items()}
    try:
        made = read_upload(UploadMeta.model_validate(order["meta"]), files, findings)
    except FileRefused:
        problems = [problem.model_dump(mode="json") for problem in findings.problems]
        tell("rejected", problems=problems, warnings=_warnings(findings))
        return 1
    facts = {
        "schema": made.schema.model_dump(mode="json"),
        "statistics": made.statistics.model_dump(mode="json"),
        "warnings": _warnings(findings),
    }
    if (size := len(json.dumps(facts))) > LARGEST_DESCRIPTION:
        tell("rejected", problems=[_too_much_to_say(size).model_dump(mode="json")], warnings=[])
        return 1
    tell("ready", sha256=store_version(Path(order["root"]), made.schema, made.arrays), **facts)
    return 0


def _too_much_to_say(size: int) -> DataProblem:
    return DataProblem(
        code="too_large",
        message=f"The names of all columns and categories take {size / 1e6:.0f} MB.",
        expected=f"at most {LARGEST_DESCRIPTION / 1e6:.0f} MB: fewer columns or categories in `features`",
    )


def _warnings(findings: Any) -> list[Json]:
    return [warning.model_dump(mode="json") for warning in findings.warnings]


if __name__ == "__main__":
    sys.exit(main())

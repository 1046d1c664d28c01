"""Reading a file of rows for predictions, in a child process with limits.

The child, `python -m worker.rows_child ORDER`, prints one JSON object: `read`, or `rejected` with problems.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from services.answers import DataProblem
from services.schema import DatasetSchema
from worker.limited import Ended, follow_order, run_order, tell

PATIENCE_SECONDS: Final = 300.0
MOST_ROWS: Final = 1_000_000


def prepare_rows(
    file: Path,
    filename: str,
    schema: DatasetSchema,
    target: Path,
    *,
    most_rows: int = MOST_ROWS,
    stop: Callable[[], bool] | None = None,
) -> list[DataProblem]:
    """Write the inputs of the file's rows to `target` (npy); or say what is wrong with them.

    `stop` is as in `run_limited`.
    """
    order = {
        "file": str(file.absolute()),
        "name": filename,
        "schema": schema.model_dump(mode="json"),
        "target": str(target.absolute()),
        "most_rows": most_rows,
    }
    path = target.with_name(f"{target.name}.order")
    ended = run_order("worker.rows_child", path, order, patience_seconds=PATIENCE_SECONDS, stop=stop)
    return _verdict(ended)


def _verdict(ended: Ended) -> list[DataProblem]:
    match ended.told[-1:]:
        case [{"event": "read"}]:
            return []
        case [{"event": "rejected", "problems": problems}]:
            return [DataProblem.model_validate(problem) for problem in problems]
    message = f"The process that read the file ended with {ended.how}."
    return [DataProblem(code="reading_failed", message=message)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The child."""
    return follow_order("worker.rows_child", _read, arguments)


def _read(order: Mapping[str, Any]) -> int:
    # Imported here: only the child may load NumPy.
    import numpy as np

    from worker.tables.findings import FileRefused, Findings
    from worker.tables.reading import SentFile
    from worker.tables.rows import read_rows

    findings = Findings()
    schema = DatasetSchema.model_validate(order["schema"])
    try:
        inputs = read_rows(schema, SentFile(Path(order["file"]), order["name"]), order["most_rows"], findings)
    except FileRefused:
        tell("rejected", problems=[problem.model_dump(mode="json") for problem in findings.problems])
        return 1
    with Path(order["target"]).open("wb") as file:
        np.save(file, inputs, allow_pickle=False)
    tell("read", rows=len(inputs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

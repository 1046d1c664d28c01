"""Reads one upload's files, whatever their format, into a dataset that may be stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.meta import CsvOptions, UploadMeta
from worker.tables.arrays import read_idx, read_npz
from worker.tables.choosing import choose_columns
from worker.tables.csv_file import read_csv
from worker.tables.findings import Findings
from worker.tables.formats import Format, format_of
from worker.tables.making import Made, make_from_table
from worker.tables.making_arrays import make_from_arrays
from worker.tables.table import Choose, Kind, Table


@dataclass(frozen=True)
class SentFile:
    """A file as it came."""

    path: Path
    name: str
    """What its owner calls it."""


def read_upload(meta: UploadMeta, files: Mapping[str, SentFile], findings: Findings) -> Made:
    """A dataset of `files` by form field; raises FileRefused, and the findings say why."""
    findings.file = "file" if "targets" in files else None
    path = files["file"].path
    format_ = format_of(path, files["file"].name, findings)
    if format_ == "idx":
        return _read_idx(meta, files, findings)
    if "targets" in files:
        findings.file = "targets"
        message = "A second file is read for idx files only."
        raise findings.refuse("unused_file", message, received=format_, expected="one file")
    if format_ == "npz":
        return make_from_arrays(meta, read_npz(path, findings, weight=meta.weight), findings)
    return make_from_table(meta, _table(meta, path, format_, findings), findings)


def _table(meta: UploadMeta, path: Path, format_: Format, findings: Findings) -> Table:
    def choose(names: Sequence[str]) -> Mapping[str, Kind]:
        return choose_columns(meta, names, findings)

    return read_table(path, format_, choose, meta.csv, meta.missing_values, findings)


def read_table(
    path: Path,
    format_: Format,
    choose: Choose,
    options: CsvOptions,
    missing: Sequence[str],
    findings: Findings,
) -> Table:
    """The chosen columns of a CSV or of a Parquet file; raises FileRefused."""
    if format_ == "parquet":
        # Imported here: a CSV needs none of it.
        from worker.tables.parquet_file import read_parquet

        return read_parquet(path, choose, missing, findings)
    return read_csv(path, choose, options, missing, findings)


def _read_idx(meta: UploadMeta, files: Mapping[str, SentFile], findings: Findings) -> Made:
    if "targets" not in files:
        message = "An idx file holds inputs or targets alone."
        raise findings.refuse(
            "missing_file", message, expected="the targets as a second file, in the form field `targets`"
        )
    if meta.weight is not None:
        message = "idx files have no weights."
        raise findings.refuse("missing_array", message, column=meta.weight, expected="an NPZ file")
    x = read_idx(files["file"].path, findings)
    findings.file = "targets"
    path = files["targets"].path
    if format_of(path, files["targets"].name, findings) != "idx":
        raise findings.refuse("unsupported_format", "The targets are no idx file.", expected="an idx file")
    y = read_idx(path, findings)
    findings.file = None
    return make_from_arrays(meta, {"x": x, "y": y}, findings)

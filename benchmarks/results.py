"""Where a benchmark's figures go: JSON, from which docs/benchmarks.md is made."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, said

FOLDER = Path(__file__).parent / "results"


def options(name: str, about: str) -> argparse.ArgumentParser:
    """The options that all have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--out", type=Path, default=FOLDER / f"{name}.json", help="where the JSON goes")
    parser.add_argument("--quick", action="store_true", help="a fraction of the work: whether it runs")
    return parser


def begin(**facts: Any) -> dict[str, Any]:
    """A report to fill, with the machine as it was before."""
    return {"began": time.strftime("%Y-%m-%d %H:%M"), "machine": machine(), **facts}


def finish(report: dict[str, Any], out: Path) -> None:
    """Write the JSON and say where."""
    report["load_after"] = machine()["load"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{said(report['machine'])}; load afterwards {report['load_after']}\n{out}")

"""docs/http.md: an example for every route, and every example runs as it stands."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from flask import Flask

from tests.stack import Stack

PAGE = Path(__file__).parents[1] / "docs" / "http.md"
EXAMPLE = re.compile(r"^### (\w+ /\S+)$|^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Route and script of each example, in order; the first block belongs to no route."""
    found, route = [], "what all examples use"
    for heading, script in EXAMPLE.findall(PAGE.read_text()):
        if heading:
            route = heading
        else:
            found.append((route, script))
    return found


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_every_route_has_an_example_and_every_example_a_route(app: Flask) -> None:
    routes = {
        method + " " + re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.endswith(".css")
    }
    shown = [route for route, _ in examples()[1:]]
    assert sorted(shown) == sorted(routes)


@pytest.mark.slow
def test_the_examples_run_from_top_to_bottom(stack: Stack, tmp_path: Path) -> None:
    steps = [f"echo '== {route}' >&2\n{script}" for route, script in examples()]
    environment = os.environ | {
        "TRAINSHED": f"http://127.0.0.1:{stack.port}",
        "KEY": (stack.home / "key").read_text().strip(),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(steps)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.stderr[-2000:]}\n{done.stdout[-2000:]}"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "scatter.svg").read_text()
    assert (tmp_path / "model.keras").read_bytes().startswith(b"PK")
    assert "event: done" in done.stdout

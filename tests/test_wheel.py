"""The wheel that users install: what it holds, and that it works without the checkout."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROBE = """
import importlib, importlib.util, sys
sys.path.insert(0, {target!r})
import trainshed, trainshed.errors, trainshed.answers
assert trainshed.__file__.startswith({target!r}), trainshed.__file__
strangers = "api", "services", "worker", "migrations", "tools", "tests"
assert [name for name in strangers if importlib.util.find_spec(name)] == []
sys.path.append({dependencies!r})
from trainshed import AsyncClient, Client
import trainshed.cli
print(Client.__module__, AsyncClient.__module__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_client_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "trainshed").rglob("*.py")}
    assert names == {*ours, "trainshed/py.typed"}


def test_the_wheel_works_where_nothing_else_of_ours_is(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "empty"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True)
    probe = PROBE.format(target=str(target), dependencies=sysconfig.get_path("purelib"))
    # Without site-packages, where the checkout would be found, until the dependencies are added.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", probe], cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.split() == ["trainshed.client", "trainshed.aio.client"]

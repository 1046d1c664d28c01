"""Where the server and its key are. The environment is read here and nowhere else in the client."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from trainshed.errors import KeyUnknown, ServerUnknown


@dataclass(frozen=True, slots=True)
class Settings:
    """The address of a server and the key it asks for."""

    url: str
    key: str


def find(
    url: str | None = None, key: str | None = None, *, environ: Mapping[str, str] = os.environ
) -> Settings:
    """What was given, else TRAINSHED_URL and TRAINSHED_KEY, else what `trainshed up` wrote into its home.

    Raises ServerUnknown, KeyUnknown.
    """
    home = find_home(environ)
    url = url or environ.get("TRAINSHED_URL") or _read(home / "address")
    if url is None:
        raise ServerUnknown(home)
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    key = key or environ.get("TRAINSHED_KEY") or _key_of(home, url)
    if key is None:
        raise KeyUnknown(home / "key")
    return Settings(url, key)


def find_home(environ: Mapping[str, str] = os.environ) -> Path:
    """TRAINSHED_HOME, else the folder `trainshed` in the user's data folder."""
    given = environ.get("TRAINSHED_HOME")
    return Path(given).expanduser().absolute() if given else default_home(environ)


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder `trainshed` in the user's data folder."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "trainshed"
    data = environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "trainshed"


def inherited(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment that the stack's processes start from.

    A person's own MLFLOW_* settings point at other servers, and TRAINSHED_*_FILE would win over what we set.
    """
    return {name: value for name, value in environ.items() if not _misleads(name)}


def _misleads(name: str) -> bool:
    return name.startswith("MLFLOW_") or (name.startswith("TRAINSHED_") and name.endswith("_FILE"))


def is_loopback(host: str | None) -> bool:
    """Whether only this machine can reach the host name or address."""
    if host is None or host == "localhost":
        return host is not None
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _key_of(home: Path, url: str) -> str | None:
    # The key of the local server must not be sent to somebody else's.
    is_ours = url == _read(home / "address") or is_loopback(urlsplit(url).hostname)
    return _read(home / "key") if is_ours else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None

"""The environment, read once by each program's entry point."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator


class Settings(BaseModel):
    """What a process needs to know of its surroundings. Every variable begins with TRAINSHED_.

    A variable NAME may be given as NAME_FILE, a path to a file with the value, as secrets are.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    database_url: str = Field(
        description="SQLAlchemy URL; {password} in it is replaced by database_password."
    )
    database_password: str | None = None
    broker_url: str = Field(description="redis:// URL of Valkey or Redis; {password} is replaced.")
    broker_password: str | None = None
    artifact_root: Path = Field(
        description="Folder of datasets, checkpoints and models, shared by all processes."
    )
    mlflow_url: str = Field(description="Tracking server as the housekeeping worker reaches it.")
    mlflow_public_url: str | None = Field(
        default=None, description="The same as people reach it; unset: mlflow_url."
    )
    public_url: str | None = Field(default=None, description="This API as people reach it; used in tags.")
    upload_limit_mb: int = Field(default=1024, ge=1, description="The largest upload, in MiB.")
    worker_name: str | None = Field(default=None, description="Unset: host name and process id.")
    slots: int | None = Field(
        default=None, ge=1, le=64, description="Unset: one a GPU, or one where there is none."
    )
    device_data_mb: int | None = Field(
        default=None,
        ge=1,
        description="How much of a dataset may lie on a device at once, in MiB; larger ones are streamed. "
        "Unset: half of the memory of a GPU's slot; on CPUs no bound, as their data stays in its files.",
    )
    start_method: str = Field(default="forkserver", pattern="^(forkserver|spawn)$")
    lease_seconds: float = Field(default=60, gt=0)
    heartbeat_seconds: float = Field(default=10, gt=0)
    reconcile_seconds: float = Field(default=15, gt=0)
    cancel_grace_seconds: float = Field(default=10, gt=0)

    @field_validator("artifact_root")
    @classmethod
    def _is_absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError(f"it must be an absolute path, not {str(path)!r}")
        return path

    @property
    def database(self) -> str:
        """The database URL with its password."""
        return self.database_url.replace("{password}", quote(self.database_password or "", safe=""))

    @property
    def broker(self) -> str:
        """The broker URL with its password."""
        return self.broker_url.replace("{password}", quote(self.broker_password or "", safe=""))


class SettingsError(Exception):
    """The environment lacks something or holds something unusable."""


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read TRAINSHED_* variables; raises SettingsError that names each one that is missing or wrong."""
    environ = os.environ if environ is None else environ
    values: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = f"TRAINSHED_{name.upper()}"
        if environ.get(f"{variable}_FILE"):
            values[name] = _read_secret(f"{variable}_FILE", Path(environ[f"{variable}_FILE"]))
        elif environ.get(variable):
            values[name] = environ[variable]
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from error


def _read_secret(variable: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: {path} cannot be read: {error}") from error


def _sentence(error: ValidationError) -> str:
    problems = error.errors()
    lines = [f"TRAINSHED_{'_'.join(map(str, p['loc'])).upper()}: {p['msg']}" for p in problems]
    return "The environment is not usable. " + "; ".join(lines)

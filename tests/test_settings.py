"""The environment: read once, each fault named."""

from pathlib import Path

import pytest

from services.settings import SettingsError, read_settings

NEEDED = {
    "TRAINSHED_DATABASE_URL": "postgresql+psycopg://trainshed:{password}@db/trainshed",
    "TRAINSHED_BROKER_URL": "redis://:{password}@broker:6379/0",
    "TRAINSHED_ARTIFACT_ROOT": "/artifacts",
    "TRAINSHED_MLFLOW_URL": "http://mlflow:5000",
}


def test_what_is_needed_is_enough() -> None:
    settings = read_settings(NEEDED)
    assert settings.artifact_root == Path("/artifacts")
    assert (settings.slots, settings.mlflow_public_url, settings.worker_name) == (None, None, None)
    assert (settings.lease_seconds, settings.heartbeat_seconds, settings.reconcile_seconds) == (60, 10, 15)


def test_every_variable_that_is_missing_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({})
    for variable in NEEDED:
        assert variable in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRAINSHED_SLOTS", "many"),
        ("TRAINSHED_SLOTS", "0"),
        ("TRAINSHED_LEASE_SECONDS", "-1"),
        ("TRAINSHED_START_METHOD", "fork"),
        ("TRAINSHED_ARTIFACT_ROOT", "artifacts"),
    ],
)
def test_a_variable_that_is_wrong_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(NEEDED | {variable: value})
    assert str(caught.value).count("TRAINSHED_") == 1
    assert variable in str(caught.value)


def test_passwords_are_quoted_into_the_addresses() -> None:
    secrets = {"TRAINSHED_DATABASE_PASSWORD": "p@ss/w%", "TRAINSHED_BROKER_PASSWORD": "a:b"}
    settings = read_settings(NEEDED | secrets)
    assert settings.database == "postgresql+psycopg://trainshed:p%40ss%2Fw%25@db/trainshed"
    assert settings.broker == "redis://:a%3Ab@broker:6379/0"


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    settings = read_settings(NEEDED | {"TRAINSHED_DATABASE_PASSWORD_FILE": str(file)})
    assert settings.database_password == "secret"


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    variable = "TRAINSHED_DATABASE_PASSWORD_FILE"
    with pytest.raises(SettingsError, match=f"{variable}.*nowhere"):
        read_settings(NEEDED | {variable: str(tmp_path / "nowhere")})


def test_an_empty_variable_is_as_good_as_none() -> None:
    settings = read_settings(
        NEEDED | {"TRAINSHED_SLOTS": "", "TRAINSHED_WORKER_NAME": "", "TRAINSHED_BROKER_PASSWORD_FILE": ""}
    )
    assert (settings.slots, settings.worker_name, settings.broker_password) == (None, None, None)

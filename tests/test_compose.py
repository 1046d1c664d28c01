"""What docker-compose.yml promises, read from the files; nothing here needs Docker."""

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
OURS = {"migrate", "api", "worker", "housekeeping", "mlflow"}
OFFICIAL = {"db": "postgres:17", "broker": "valkey/valkey:8"}
ONE_SHOT = {"migrate"}
DOCKERFILES = sorted((ROOT / "compose").glob("*.Dockerfile"))

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GPU: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_stack_is_complete():
    assert SERVICES.keys() == OURS | OFFICIAL.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_as_root_or_can_become_it(name):
    service = SERVICES[name]
    assert service["user"] == (
        "10001:10001" if name in OURS else {"db": "postgres", "broker": "valkey"}[name]
    )
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert not service.keys() & {"privileged", "cap_add", "pid", "ipc", "network_mode"}


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_what_stays_up_has_a_health_check_and_comes_back(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_what_others_wait_for_can_be_waited_for():
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if name in ONE_SHOT else "service_healthy"
            assert wait == {"condition": expected}


def test_ports_are_published_on_loopback_unless_told_otherwise():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "api": ["${TRAINSHED_API_ADDRESS:-127.0.0.1:8080}:8080"],
        "mlflow": ["${TRAINSHED_MLFLOW_ADDRESS:-127.0.0.1:5000}:5000"],
    }


def test_database_and_broker_are_on_networks_without_a_way_out():
    for name in ("db", "broker", "migrate", "worker"):
        assert all(COMPOSE["networks"][network].get("internal") for network in SERVICES[name]["networks"])


def test_only_the_database_is_between_mlflow_and_the_broker():
    assert not set(SERVICES["mlflow"]["networks"]) & set(SERVICES["broker"]["networks"])
    assert not set(SERVICES["mlflow"]["networks"]) & set(SERVICES["api"]["networks"])


@pytest.mark.parametrize("name", SERVICES)
def test_passwords_come_from_files_only(name):
    for variable, value in SERVICES[name].get("environment", {}).items():
        if "PASSWORD" in variable:
            assert variable.endswith("_FILE")
            assert Path(value).name in SERVICES[name]["secrets"]
        in_url = re.search(r"://[^/@]*:(?P<password>[^/@]*)@", value)
        assert in_url is None or in_url["password"] == "{password}"


def test_secret_files_are_kept_out_of_git_and_of_images():
    assert all(secret["file"].startswith("./secrets/") for secret in COMPOSE["secrets"].values())
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "secrets" in (ROOT / ".dockerignore").read_text().splitlines()


def test_make_secrets_makes_each_secret_once(tmp_path):
    folder = tmp_path / "secrets"

    def make() -> dict[str, str]:
        subprocess.run([ROOT / "compose" / "make-secrets", folder], check=True, capture_output=True)
        return {file.name: file.read_text() for file in folder.iterdir()}

    first = make()
    assert first.keys() == {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert len(set(first.values())) == len(first)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in first.values())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o444}
    (folder / "broker_password.txt").unlink()
    second = make()
    assert [name for name in first if first[name] != second[name]] == ["broker_password.txt"]


def test_workers_have_time_to_hand_their_jobs_back():
    assert SERVICES["worker"]["stop_grace_period"] == "60s"
    assert SERVICES["housekeeping"]["stop_grace_period"] == "60s"
    assert SERVICES["api"]["stop_grace_period"] == "15s"


def test_state_is_in_named_volumes():
    mounted = {name: service.get("volumes", []) for name, service in SERVICES.items()}
    for name in ("api", "worker", "housekeeping"):
        assert mounted[name] == ["artifacts:/var/lib/trainshed"]
    sources = {volume.split(":")[0] for volumes in mounted.values() for volume in volumes}
    assert {source for source in sources if not source.startswith("./")} == COMPOSE["volumes"].keys()


def test_files_that_are_mounted_are_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).is_file()
                assert volume.endswith(":ro")


def test_only_official_images_are_named():
    assert {name: SERVICES[name]["image"] for name in OFFICIAL} == OFFICIAL
    for name in OURS:
        assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_hold_checked_packages_and_their_bytecode(dockerfile):
    text = dockerfile.read_text()
    assert text.count("\nFROM ") == 1
    assert "\nFROM python:3.12-slim\n" in text
    assert text.count("pip install") == text.count("--require-hashes --only-binary :all:") == 1
    assert "\nUSER 10001:10001\n" in text
    assert "PYTHONDONTWRITEBYTECODE" not in text
    for lock in re.findall(r"^COPY (requirements/\S+)", text, re.MULTILINE):
        for device in ("cpu", "gpu"):
            assert (ROOT / lock.replace("${DEVICE}", device)).is_file()


def test_the_api_image_has_no_tensorflow():
    names = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/api.txt").read_text(), re.MULTILINE))
    assert "flask" in names
    assert not names & {"tensorflow", "tensorflow-cpu", "keras", "mlflow", "mlflow-skinny", "pandas"}


def test_gpus_are_given_to_the_train_worker_only():
    reserving = [name for name, service in GPU["services"].items() if "deploy" in service]
    assert reserving == ["worker"]
    assert {service["build"]["args"]["DEVICE"] for service in GPU["services"].values()} == {"gpu"}

"""The command line against a small HTTP server that speaks the service's contract."""

import copy
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from services import answers
from tests.stub import (
    EVALUATED,
    EVALUATION,
    NOTHING,
    NOW,
    PARTS,
    PREDICTED,
    PREDICTION,
    PROBLEM,
    REJECTED,
    ROWS_WRONG,
    SPEC,
    SUCCESS,
    UPLOAD,
    Service,
    ended,
    make_id,
    make_job,
    running,
    serving,
    write_spec,
)
from tests.uploading import problems_of
from trainshed import answers as typed
from trainshed.cli import app
from trainshed.client import Client
from trainshed.commands.meta import hint_for_data
from trainshed.commands.session import report
from trainshed.demo import show_job
from trainshed.errors import KeyUnknown, ServerUnknown, problem_error
from trainshed.follow import follow
from trainshed.ports import free_port
from trainshed.settings import Settings, find
from trainshed.tables import prediction_row

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    with serving(monkeypatch, tmp_path) as held:
        yield held


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client() as connected:
        yield connected


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def trainshed(service: Service, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as exit_:
            app(list(arguments), prog_name="trainshed")
        printed = capsys.readouterr()
        return Result(int(exit_.value.code or 0), printed.out, printed.err)

    return call


# Settings


def test_the_server_on_this_machine_is_found_by_what_up_wrote(tmp_path: Path) -> None:
    environ = {"TRAINSHED_HOME": str(tmp_path)}
    with pytest.raises(ServerUnknown, match=r"trainshed up.*TRAINSHED_HOME"):
        find(environ=environ)
    (tmp_path / "address").write_text("http://127.0.0.1:8080\n")
    with pytest.raises(KeyUnknown):
        find(environ=environ)
    (tmp_path / "key").write_text("ours\n")
    assert find(environ=environ) == Settings("http://127.0.0.1:8080", "ours")


def test_the_local_key_is_not_sent_to_another_server(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("ours\n")
    environ = {"TRAINSHED_HOME": str(tmp_path), "TRAINSHED_URL": "https://elsewhere.example"}
    with pytest.raises(KeyUnknown):
        find(environ=environ)
    assert find(environ=environ | {"TRAINSHED_KEY": "theirs"}).key == "theirs"
    assert find(environ=environ | {"TRAINSHED_URL": "http://localhost:8080"}).key == "ours"


def test_an_address_without_a_scheme_is_http() -> None:
    assert find("127.0.0.1:8080/", "k", environ={}) == Settings("http://127.0.0.1:8080", "k")


# Command line


@pytest.mark.parametrize(
    "arguments",
    [
        ["model", "--out", "/nonexistent/m.keras"],
        ["model", "--out", "."],
        ["plot", "--out", "/nonexistent/c.png"],
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_written_is_told_in_a_sentence(
    trainshed: Any, service: Service, arguments: list[str]
) -> None:
    service.jobs = [make_job()]
    told = trainshed(*arguments)
    assert (told.code, len(told.err.splitlines())) == (2, 1)
    as_json = trainshed(*arguments, "-o", "json")
    assert (as_json.code, json.loads(as_json.err)) == (2, {"detail": told.err.strip()})


@pytest.mark.parametrize("command", ["ls", "queue"])
def test_a_job_takes_one_line_of_eighty_columns(
    trainshed: Any, service: Service, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("trainshed.tables.WIDE", 80)
    metrics = {"accuracy": 0.8, "loss": 0.4, "val_accuracy": 0.9, "val_loss": 0.3, "val_auc": 0.7}
    service.jobs = [
        make_job(id=make_id(1), name="a rather long name of a job " * 3, **running(1, **metrics)),
        make_job(id=make_id(2), dataset={"name": "a_data_set_with_a_long_name", "version": None}),
    ]
    lines = trainshed(command).out.splitlines()

    assert max(map(len, lines)) <= 80
    first, second = (next(line for line in lines if job["id"][-8:] in line) for job in service.jobs)
    assert " running " in first
    assert "…" in first
    assert command == "queue" or "val_loss 0.3000" in first
    assert " queued " in second
    jobs_end = lines.index(second)
    assert jobs_end == lines.index(first) + 1


def test_a_list_shows_the_validation_loss_and_one_more_metric(trainshed: Any, service: Service) -> None:
    metrics = {"loss": 0.4, "val_accuracy": 0.9, "val_auc": 0.7, "val_loss": 0.3}
    service.jobs = [make_job(**running(1, **metrics))]
    assert "val_loss 0.3000  val_accuracy 0.9000  fashion_mnist" in trainshed("ls").out
    service.jobs = [make_job(**running(1, loss=0.4, accuracy=0.8, auc=0.7, learning_rate=0.1))]
    assert "loss 0.4000  accuracy 0.8000  fashion_mnist" in trainshed("ls").out


def test_evaluations_are_listed_and_mentioned(trainshed: Any, service: Service) -> None:
    service.jobs = [make_job(**ended("succeeded", "finished"))]
    assert "Nobody has asked" in trainshed("evaluations").out
    service.evaluations = [EVALUATED, EVALUATION | {"id": "e2", "looks_before": 1}]

    shown = trainshed("evaluations", "last").out
    for word in ("test", "succeeded", "queued", "10,000", "accuracy 0.8753", NOW):
        assert word in shown
    assert trainshed("evaluations", "-o", "json").json == service.evaluations
    assert "test: loss 0.3500  accuracy 0.8753" in trainshed("show").out


def test_a_trainer_that_wrote_nothing_is_told_beside_the_output(
    trainshed: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.jobs = [make_job()]
    monkeypatch.setitem(PARTS, "logs", "")
    result = trainshed("logs")
    assert (result.code, result.out, result.err) == (0, "", "The trainer wrote nothing.\n")


def test_a_watcher_is_told_once_that_the_server_is_away(trainshed: Any, service: Service) -> None:
    service.jobs = [make_job()]
    service.story = copy.deepcopy(SUCCESS)
    service.mishaps = [0, 0, 503, 503, 503, 0, 503, 503]
    result = trainshed("watch")

    assert result.code == 0
    assert result.err.count("does not answer") == 1
    assert "The job goes on. To watch it again later: trainshed watch 00000001" in result.err


def test_the_version_is_printed(trainshed: Any) -> None:
    assert trainshed("--version").out.startswith("trainshed 0.")


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (SUCCESS[-1], 0),
        (ended("failed", "diverged", detail="The loss became NaN in epoch 2."), 1),
        (ended("cancelled", "user_cancelled"), 3),
    ],
)
def test_the_exit_code_of_a_watched_submit_is_the_outcome(
    trainshed: Any, service: Service, tmp_path: Path, last: dict[str, Any], code: int
) -> None:
    service.story = [*copy.deepcopy(SUCCESS[:-1]), last]
    result = trainshed("submit", str(write_spec(tmp_path)), "--watch")

    assert result.code == code
    lines = result.out.splitlines()
    assert lines[0] == "queued: The dataset fashion_mnist is being fetched."
    assert "epoch 1/3  loss 0.7000  val_accuracy 0.8500  (1:05 left)" in lines
    assert lines[-1].startswith(f"Job {make_id(1)} {last['state']} ({last['reason']}).")
    assert (last.get("detail") or "") in lines[-1]


def test_a_watched_job_is_a_stream_of_json_if_asked_for(trainshed: Any, service: Service) -> None:
    service.jobs = [make_job()]
    service.story = copy.deepcopy(SUCCESS)
    result = trainshed("watch", "-o", "json")

    states = [json.loads(line)["state"] for line in result.out.splitlines()]
    assert states == ["queued", "running", "running", "running", "succeeded"]


def test_a_spec_can_come_from_standard_input_with_changes(
    trainshed: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(SPEC))
    result = trainshed(
        "submit", "-", "--set", "fit.epochs=5", "--set", "name=my job", "--idempotency-key", "k1"
    )

    assert result.code == 0
    sent = service.requests[-1]
    assert (sent.body, sent.headers["idempotency-key"]) == (SPEC.encode(), "k1")
    assert sent.query == [("set", "fit.epochs=5"), ("set", 'name="my job"')]


def test_a_dry_run_queues_nothing(trainshed: Any, service: Service, tmp_path: Path) -> None:
    result = trainshed("submit", str(write_spec(tmp_path)), "--dry-run")

    assert "Nothing was queued." in result.out
    assert "All kernels are 0." in result.out
    assert service.jobs == []


def test_an_invalid_spec_is_a_usage_error_with_all_problems(trainshed: Any, tmp_path: Path) -> None:
    file = write_spec(tmp_path, "fit: {epochs: 0}")
    result = trainshed("submit", str(file))
    assert result.code == 2
    assert "/fit/epochs: Must be at least 1." in result.err
    assert "/model/layer" in result.err
    assert json.loads(trainshed("-o", "json", "submit", str(file)).err) == PROBLEM


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "no-such-file.yaml"],
        ["submit", "-", "--set", "epochs"],
        ["plot", "last", "--out", "curves.pdf"],
        ["model", "last", "--out", "m.h5"],
        ["up", "--port", "8080", "--mlflow-port", "8080"],
        ["evaluate", "last", "--split", "exam"],
        ["plot", "last", "--kind", "pie"],
        ["predict", "last"],
        ["predict", "last", "--instances", "[]", "--split", "test"],
        ["predict", "last", "--instances", "{"],
        ["predict", "last", "--instances", "{}"],
        ["predict", "last", "--instances", "[]", "--threshold", "a=b"],
        ["predict", "last", "--instances", "[]", "--threshold", "0.5", "--threshold", "a=0.5"],
        ["predict", "last", "--instances", "[]", "--out", "p.xlsx"],
        ["predict", "last", "--file", "none.csv"],
        ["continue", "last"],
        ["continue", "last", "--epochs", "0"],
        ["update", "last", "--label", "key"],
        ["datasets", "add", "none.csv", "--name", "a", "--task", "binary"],
        ["datasets", "add", "spec.yaml", "--name", "a"],
        ["datasets", "add", "spec.yaml", "--meta", "none.yaml"],
        ["show", "ffff"],
        ["delete", "last"],
        ["datasets", "delete", "houses"],
        ["no-such-command"],
    ],
)
def test_a_wrong_call_is_a_usage_error(trainshed: Any, service: Service, arguments: list[str]) -> None:
    service.jobs = [make_job()]
    assert trainshed(*arguments).code == 2
    assert len(service.jobs) == 1


def test_without_a_server_the_exit_code_is_4_and_the_sentence_says_what_to_do(
    trainshed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINSHED_URL", f"http://127.0.0.1:{free_port()}")
    result = trainshed("ls")
    assert (result.code, result.out) == (4, "")
    assert "`trainshed up`" in result.err
    monkeypatch.delenv("TRAINSHED_URL")
    assert trainshed("ls").code == 4


READING = [
    ["ls"],
    ["show"],
    ["history"],
    ["queue"],
    ["datasets"],
    ["datasets", "show", "fashion_mnist"],
    ["datasets", "ledger", "fashion_mnist"],
    ["open"],
    ["logs"],
    ["cancel", "last"],
    ["evaluate", "last", "--split", "test", "--reason", "final"],
    ["plot"],
    ["model"],
    ["evaluations"],
    ["predict", "last", "--instances", "[[1, 2]]"],
    ["continue", "last", "--epochs", "5"],
    ["retry", "last"],
    ["clone", "last", "--set", "fit.epochs=5"],
    ["update", "last", "--note", "a try"],
    ["datasets", "add", "houses.csv", "--name", "houses", "--task", "regression", "--target", "price"],
    ["datasets", "versions", "fashion_mnist"],
    ["logs", "--attempt", "1"],
    ["plot", "--kind", "confusion-matrix"],
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_every_command_speaks_json_before_or_after_its_name(
    trainshed: Any, service: Service, arguments: list[str]
) -> None:
    service.jobs = [make_job(**ended("failed", "diverged"))]
    Path("houses.csv").write_text("rooms,price\n3,1.5\n")
    before = trainshed("-o", "json", *arguments)
    service.jobs = service.jobs[-1:]
    after = trainshed(*arguments, "--output", "json")

    assert (before.code, after.code) == (0, 0), before.err
    assert before.json == after.json
    assert before.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls"], ["00000001", "tiny", "running", "1/3", "val_accuracy 0.8500", "fashion_mnist"]),
        (["show"], [make_id(1), "266,610", "course:ds3", "MLflow"]),
        (["show", "-v"], [make_id(1), "No epoch is finished yet."]),
        (["history"], ["loss", "val_accuracy", "0.8850", "nan"]),
        (["history", "--csv"], ["epoch,loss"]),
        (["queue"], ["1 running on 1 slot,", "w1", "1/1"]),
        (["datasets"], ["fashion_mnist", "28×28", "60,000", "10,000", "multiclass"]),
        (["datasets", "ledger", "fashion_mnist"], ["ada", "final"]),
        (["evaluate", "last", "--split", "test", "--reason", "final"], ["accuracy", "0.8753", "10,000"]),
        (["logs"], ["Epoch 1/3"]),
        (["open"], ["http://127.0.0.1:5000/#/experiments/1/runs/r1"]),
        (["cancel", "0001"], ["is being cancelled"]),
        (["delete", "last", "--yes"], ["Deleted"]),
        (["model", "--out", "m.keras"], ["Wrote m.keras"]),
        (["plot", "--out", "c.svg"], ["Wrote c.svg"]),
        (["plot", "--kind", "confusion-matrix"], ["Wrote confusion-matrix.png"]),
        (["predict", "last", "--instances", '[{"x": 1}, {"x": 2}]'], ["class_name", "b", "0.7500"]),
        (["predict", "last", "--split", "test", "--reason", "final", "--out", "p.csv"], ["Wrote p.csv"]),
        (
            ["continue", "last", "--epochs", "5", "--early-stopping", "reset"],
            [f"Job {make_id(2)} is queued."],
        ),
        (["retry", "last"], [f"Job {make_id(2)} is queued."]),
        (["clone", "last"], [f"Job {make_id(2)} is queued."]),
        (["update", "last", "--priority", "-5"], ["Changed"]),
        (["datasets", "delete", "houses", "--yes"], ["Deleted dataset houses."]),
        (
            ["datasets", "delete", "houses", "--version", "abababab", "--yes"],
            ["Deleted dataset houses@abababab."],
        ),
        (["datasets", "versions", "fashion_mnist"], ["abababab", "60,000 train, 10,000 test"]),
    ],
    ids=" ".join,
)
def test_people_read_tables_and_sentences(
    trainshed: Any, service: Service, arguments: list[str], words: list[str]
) -> None:
    service.jobs = [make_job(**running(1, loss=0.7, val_accuracy=0.85))]
    result = trainshed(*arguments)

    assert result.code == 0, result.err
    assert [word for word in words if word not in result.out] == []


def test_a_dataset_is_described_by_a_file_by_options_or_both(
    trainshed: Any, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "houses.csv").write_text("rooms,price\n3,1.5\n")
    (tmp_path / "meta.yaml").write_text("name: old\ntask: regression\ntarget: price\ntest: {fraction: 0.2}\n")
    options = [
        "--meta",
        "meta.yaml",
        "--name",
        "houses",
        "--set",
        "test.fraction=0.3",
        "--set",
        "csv.decimal=,",
    ]
    result = trainshed("datasets", "add", "houses.csv", *options)

    assert result.code == 0, result.err
    for word in ("houses", "ready", "houses.csv (1,000 bytes)", "ef" * 32):
        assert word in result.out
    sent = next(request.body.decode() for request in service.requests if request.method == "POST")
    said = next(line for line in sent.splitlines() if line.startswith("{"))
    assert json.loads(said) == {
        "name": "houses", "task": "regression", "target": "price", "test": {"fraction": 0.3},
        "csv": {"decimal": ","},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [("meta.yaml", "a: ["), ("meta.json", "a: b"), ("meta.yaml", "- a")],
    ids=["no YAML", "no JSON", "no mapping"],
)
def test_a_description_that_cannot_be_read_is_told_in_a_sentence(
    trainshed: Any, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    result = trainshed("datasets", "add", "houses.csv", "--meta", name)
    assert result.code == 2
    assert f"{name} cannot be read: " in result.err


def problem_with(expected: str) -> dict[str, Any]:
    return REJECTED | {"problems": [ROWS_WRONG | {"expected": expected}]}


@pytest.mark.parametrize(
    ("expected", "hint"),
    [
        (
            'a value in each row, or missing: {"Med Inc": "median"} in `meta`',
            "--set 'missing.Med Inc=median'",
        ),
        (
            'a value in each row, or missing: {"a.b": "median"} in `meta`',
            """--set 'missing={"a.b": "median"}'""",
        ),
        ('a decimal point, or csv: {"decimal": ","} in `meta`', "--set csv.decimal=,"),
        ("a number, or add the text to `missing_values`", "--set KEY=VALUE"),
        ("a number", None),
    ],
)
def test_what_meta_would_mend_is_said_as_an_option(
    trainshed: Any, service: Service, tmp_path: Path, expected: str, hint: str | None
) -> None:
    (tmp_path / "houses.csv").write_text("rooms,price\n3,1.5\n")
    call = ["datasets", "add", "houses.csv", "--name", "houses", "--task", "regression", "--target", "price"]
    service.uploads = [UPLOAD, problem_with(expected)]
    told = trainshed(*call).err
    assert hint in told if hint else "--set" not in told
    service.uploads = [UPLOAD, problem_with(expected)]
    assert "--set" not in trainshed(*call, "-o", "json").err


def test_what_the_server_proposes_for_meta_is_understood(tmp_path: Path) -> None:
    found = problems_of(tmp_path, "age;rent\n30;1,5\n", categorical=None, csv={"decimal": "."})
    found += problems_of(tmp_path, "age;rent\n30;1\n;700\n31;2\n", categorical=None)
    told = hint_for_data([cast(typed.DataProblem, one.model_dump()) for one in found])
    assert told == "On the command line: --set csv.decimal=, --set missing.age=median"


def test_a_meta_that_is_refused_is_followed_by_how_to_set_its_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = {**PROBLEM, "errors": [{**PROBLEM["errors"][0], "pointer": "/meta/test/last"}]}
    for document, is_hinted in ((refused, True), (PROBLEM, False)):
        report(problem_error(cast(typed.ProblemAnswer, document)), is_json=False)
        assert ("--set KEY=VALUE" in capsys.readouterr().err) == is_hinted


def test_the_problems_of_rejected_data_are_a_table_and_the_exit_code_is_1(
    trainshed: Any, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "houses.csv").write_text("rooms,price\n3,1.5\n")
    call = ["datasets", "add", "houses.csv", "--name", "houses", "--task", "regression", "--target", "price"]
    service.uploads = [UPLOAD, REJECTED]
    result = trainshed(*call)

    assert result.code == 1
    (line,) = (line for line in result.out.splitlines() if "MedInc" in line)
    for word in ("Not a number.", "17", "n/a", "a number", "12"):
        assert word in line
    as_json = trainshed(*call, "-o", "json")
    assert (as_json.code, as_json.json) == (1, REJECTED)


def test_predictions_are_written_as_csv_and_json(trainshed: Any, service: Service, tmp_path: Path) -> None:
    service.jobs = [make_job(**ended("succeeded", "finished"))]
    trainshed("predict", "last", "--instances", "[[1], [2]]", "--out", "p.csv")
    assert (
        tmp_path / "p.csv"
    ).read_text() == "row,class,class_name,p(a),p(b)\n0,1,b,0.1,0.9\n1,0,a,0.75,0.25\n"
    trainshed("predict", "last", "--instances", "[[1], [2]]", "--out", "p.json")
    assert json.loads((tmp_path / "p.json").read_text()) == PREDICTED


@pytest.mark.parametrize(
    ("one", "row"),
    [
        ({"values": {"price": 1.5}}, {"price": 1.5}),
        ({"probabilities": [0.9, 0.2], "labels": ["a", "b"]}, {"labels": "a;b", "p(0)": 0.9, "p(1)": 0.2}),
        (
            {"class": 1, "class_name": "b", "probabilities": [0.1, 0.9]}
            | {"top_k": [{"id": 1, "class_name": "b", "probability": 0.9}]},
            {"class": 1, "class_name": "b", "top_k": "b 0.9000"},
        ),
    ],
    ids=["regression", "multilabel", "top k"],
)
def test_a_row_of_predictions_shows_what_belongs_to_its_task(
    one: dict[str, Any], row: dict[str, Any]
) -> None:
    assert prediction_row(NOTHING | one) == row  # type: ignore[arg-type]


def test_rows_that_cannot_be_predicted_end_with_1(trainshed: Any, service: Service) -> None:
    service.jobs = [make_job(**ended("succeeded", "finished"))]
    service.predictions = [PREDICTION | {"state": "failed", "problems": [ROWS_WRONG]}]
    result = trainshed("predict", "last", "--instances", "[[1]]")
    assert (result.code, "line 17, column MedInc" in result.err) == (1, True)
    as_json = trainshed("predict", "last", "--instances", "[[1]]", "-o", "json")
    assert json.loads(as_json.err)["problems"] == [ROWS_WRONG]


def test_options_become_what_the_server_is_asked(trainshed: Any, service: Service) -> None:
    service.jobs = [make_job(**ended("succeeded", "finished"))]
    trainshed("predict", "last", "--split", "test", "--reason", "r", "--top-k", "3", "--threshold", "a=0.5")
    trainshed("update", "last", "--label", "kind:best", "--label", "old:", "--note", "")
    trainshed("clone", "last", "--set", "fit.epochs=5", "--set", "name=my job")
    trainshed("delete", make_id(1), "--yes", "--mlflow")

    asked = [json.loads(one.body) for one in service.requests if one.body]
    assert asked == [
        {"split": "test", "reason": "r", "top_k": 3, "thresholds": {"a": 0.5}},
        {"labels": {"kind": "best", "old": None}, "note": None},
        {"set": {"fit.epochs": 5, "name": "my job"}},
    ]
    assert ("mlflow", "true") in service.requests[-1].query


def test_a_bar_moves_on_a_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    follow([make_job(), make_job(**running(2, loss=0.5)), make_job(**SUCCESS[-1])], console)

    assert "epoch 3/3" in screen.getvalue()
    assert "loss 0.4000" in screen.getvalue()


@pytest.mark.parametrize(("accuracy", "code"), [(0.885, 0), (0.5, 1)])
def test_the_demo_shows_everything_and_judges_the_accuracy(
    client: Client, service: Service, tmp_path: Path, accuracy: float, code: int
) -> None:
    service.story = [*copy.deepcopy(SUCCESS[:-1]), SUCCESS[-1] | {"metrics": {"val_accuracy": accuracy}}]
    screen = io.StringIO()

    assert (
        show_job(
            Console(file=screen, width=200), client, write_spec(tmp_path), picture=tmp_path / "curves.png"
        )
        == code
    )

    shown = screen.getvalue()
    assert "queued: The dataset fashion_mnist is being fetched." in shown
    assert "0.8753" in shown
    assert "http://127.0.0.1:5000/#/experiments/1/runs/r1" in shown
    assert (tmp_path / "curves.png").read_bytes() == b"\x89PNG"


@pytest.mark.parametrize("name", sorted(set(vars(answers)) & set(vars(typed))))
def test_the_clients_types_name_what_the_server_answers(name: str) -> None:
    ours, theirs = getattr(typed, name), getattr(answers, name)
    if hasattr(theirs, "model_fields") and hasattr(ours, "__annotations__"):
        names = {one.alias or own_name for own_name, one in theirs.model_fields.items()}
        assert set(ours.__annotations__) == names


def test_the_clients_job_names_what_the_server_answers() -> None:
    assert set(typed.JobAnswer.__annotations__) == set(answers.Job.model_fields)
    assert set(typed.ProblemAnswer.__annotations__) == set(answers.ProblemDocument.model_fields)


def test_the_command_line_is_imported_without_what_it_does_not_need() -> None:
    assert loaded_by("trainshed").isdisjoint({"httpx", "rich", "typer"})
    assert loaded_by("trainshed.cli").isdisjoint({"httpx", "rich", "asyncio", "pydantic"})
    heavy = {
        "numpy",
        "pandas",
        "tensorflow",
        "keras",
        "mlflow",
        "matplotlib",
        "flask",
        "services",
        "pydantic",
    }
    assert loaded_by("trainshed.client").isdisjoint(heavy)
    assert loaded_by("trainshed.stack").isdisjoint(heavy)


def loaded_by(module: str) -> set[str]:
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())

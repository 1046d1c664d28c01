"""Every word of the vocabulary, trained by each engine: the same numbers, as often as they are asked for."""

import hashlib
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from services import layers, losses, metrics, optimizers
from services.metrics import METRICS
from services.shapes import model_layers
from services.spec import CompileSpec, FitSpec, ModelSpec, Preprocessing, TrainSpec
from services.vocabulary import Component
from tests.engine_rows import ROWS, store_tables
from tests.test_training import checkpoint_arrays, in_a_fresh_process
from worker import events

ENGINES = ("keras", "graph", "xla")
USUALLY = (
    "labels, logits, the loss a sum",
    "squared hinges, accumulated gradients",
    "images, class weights",
    "a class ignored, sample and class weights",
    "dropout",
    "16 bits",
)
"""Each row takes about six seconds, most of them XLA's, so these stand for the others.

With TRAINSHED_EVERY_ROW=1 in the environment all rows are trained, each of them twice.
"""
CHOSEN = tuple(ROWS) if os.environ.get("TRAINSHED_EVERY_ROW") else USUALLY

TOLERANCE = 1e-4
"""Relative, of every metric in each of three epochs. Measured: graph 2e-7, xla 6e-6."""
IN_16_BITS = 0.05
"""XLA keeps more digits between two operations. Measured: float16 3e-4, bfloat16 0.02 (in accuracy)."""
DRAWS_OTHERWISE = {("dropout", "xla")}
"""XLA has another generator behind TensorFlow's stateless_dropout: other masks, losses 0.1 to 0.4 apart."""

pytestmark = pytest.mark.slow


@dataclass
class Told:
    """What a trainer told in the process that asks, where a supervisor would be."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    state: str = ""
    """SHA-256 of the last checkpoint: weights, optimizer, early stopping."""
    engine: str = ""
    stop_wanted: bool = False

    def send(self, event: events.Event) -> None:
        match event:
            case events.EngineChosen():
                self.engine = event.why
            case events.EpochEnded():
                self.epochs.append(event.metrics)
                if event.checkpoint is not None:
                    self.state = _digest(checkpoint_arrays(event))

    def next_request(self) -> None:
        return None


def _digest(arrays: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(name.encode() + arrays[name] for name in sorted(arrays))).hexdigest()


def trained(orders: list[bytes]) -> list[Told]:
    """What comes of train orders, carried out one after the other in one process."""
    from worker.training.trainer import carry_out

    found = []
    for order in orders:
        told = Told()
        verdict = carry_out(events.decode_order(order), told, tensorflow_preloaded=True)
        assert isinstance(verdict, events.Finished), verdict
        found.append(told)
    return found


def stock(order_: bytes) -> list[dict[str, float]]:
    """What Keras's own fit says, given NumPy arrays, all epochs in one call."""
    import keras

    from worker.training.building import adapt, build_model
    from worker.training.data import weights_of
    from worker.training.evaluating import Splits
    from worker.training.scaling import scaled
    from worker.training.seeds import seed_epoch

    order = events.decode_order(order_)
    spec = TrainSpec.model_validate(order.spec)
    splits = Splits(order.dataset, spec)
    table, train, held_out = splits.unsealed, splits.cut.train, splits.cut.validation
    model = build_model(spec, splits.schema)
    adapt(model, table, train)
    y = scaled(table.y, splits.scaling)
    seeds = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: seed_epoch(model, 42, epoch))
    found = model.fit(
        table.x[train],
        y[train],
        sample_weight=None if table.w is None else weights_of(table, None)[train],
        class_weight=spec.fit.class_weights(splits.schema.target.class_names or ()),
        validation_data=(table.x[held_out], y[held_out]),
        batch_size=spec.fit.batch_size,
        epochs=spec.fit.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[seeds],
    ).history
    return [{name: values[epoch] for name, values in found.items()} for epoch in range(spec.fit.epochs)]


class Trained:
    """Rows trained by each engine, each row once, in a process of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tables = store_tables(root)
        self._told: dict[str, dict[str, Told]] = {}

    def order(self, row: str, engine: str, **device: Any) -> bytes:
        spec = ROWS[row].model_dump(mode="json")
        spec["fit"]["engine"] = engine
        folder = self._root / f"job-{len(list(self._root.iterdir()))}"
        folder.mkdir()
        facts = {"job": folder.name, "fence": 1, "spec": spec, "dataset": self._tables[ROWS[row].dataset]}
        device = {"kind": "cpu", "threads": 2, **device}
        order = events.TrainOrder.model_validate({**facts, "job_dir": str(folder), "device": device})
        return events.encode_order(order)

    def by_engine(self, row: str) -> dict[str, Told]:
        if row not in self._told:
            found = in_a_fresh_process(trained, [self.order(row, engine) for engine in ENGINES])
            self._told[row] = dict(zip(ENGINES, found, strict=True))
        return self._told[row]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("engines"))


def agree(ours: list[dict[str, float]], theirs: list[dict[str, float]], tolerance: float) -> None:
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert list(one) == list(other)
        assert one == pytest.approx(other, rel=tolerance, abs=1e-6)


@pytest.mark.parametrize("row", CHOSEN)
def test_engines_give_the_same_history(runs: Trained, row: str) -> None:
    told = runs.by_engine(row)
    tolerance = TOLERANCE if ROWS[row].model.dtype_policy == "float32" else IN_16_BITS
    for engine in ("graph", "xla"):
        if (row, engine) not in DRAWS_OTHERWISE:
            agree(told[engine].epochs, told["keras"].epochs, tolerance)


@pytest.mark.parametrize("row", [row for row in CHOSEN if not ROWS[row].fit.shuffle])
def test_the_history_is_that_of_stock_fit_on_arrays(runs: Trained, row: str) -> None:
    theirs = in_a_fresh_process(stock, runs.order(row, "keras"))
    agree(runs.by_engine(row)["keras"].epochs, theirs, TOLERANCE)


@pytest.mark.parametrize("row", CHOSEN if CHOSEN != USUALLY else ["dropout"])
def test_an_engine_repeats_itself_bit_for_bit(runs: Trained, row: str) -> None:
    again = in_a_fresh_process(trained, [runs.order(row, engine) for engine in reversed(ENGINES)])
    first = runs.by_engine(row)
    for engine, told in zip(reversed(ENGINES), again, strict=True):
        assert told.epochs == first[engine].epochs
        assert told.state == first[engine].state != ""


def test_streamed_rows_give_the_bits_of_rows_on_the_device(runs: Trained) -> None:
    whole = runs.by_engine("long")
    orders = [runs.order("long", engine, data_mb=1) for engine in ENGINES]
    for engine, told in zip(ENGINES, in_a_fresh_process(trained, orders), strict=True):
        assert "streamed" in told.engine
        assert "streamed" not in whole[engine].engine
        assert told.epochs == whole[engine].epochs
        assert told.state == whole[engine].state


# The table names every word

COMPONENTS = [
    c
    for module in (layers, losses, optimizers, metrics)
    for c in vars(module).values()
    if inspect.isclass(c) and issubclass(c, Component) and c.__module__ == module.__name__
    if module is not metrics or c in METRICS
    if "type" in c.model_fields and not c.model_fields["type"].is_required()
]
PARTS: list[type[BaseModel]] = [Preprocessing, ModelSpec, CompileSpec, FitSpec, layers.RenormClipping]
NOT_OF_ENGINES = {
    *("FitSpec.epochs", "FitSpec.early_stopping", "FitSpec.engine=auto"),
    *(f"FitSpec.engine={engine}" for engine in ENGINES),
    *("Rescaling.offset", "Rescaling.name", "R2Score.num_regressors"),
}
"""Words that change nothing in a step, that a spec cannot say, or that are refused."""


def test_the_rows_use_every_word_that_a_spec_can_say() -> None:
    wanted = {word for kind in (*COMPONENTS, *PARTS) for word in _words_of(kind)}
    used = {word for spec in ROWS.values() for word in _words_in(spec)}
    assert sorted(wanted - used - NOT_OF_ENGINES) == []


def _words_of(kind: type[BaseModel]) -> Iterator[str]:
    """A class; each argument; of an argument that is chosen from a list, each choice."""
    yield kind.__name__
    for name, about in kind.model_fields.items():
        if name == "type":
            continue
        choices = _choices(about.annotation)
        said = f"{_owner(kind, name)}.{name}"
        yield from (f"{said}={choice}" for choice in choices) if choices else (said,)


def _words_in(part: Any) -> Iterator[str]:
    if isinstance(part, TrainSpec):
        parts = (part.preprocessing, part.model, part.compile, part.fit, *model_layers(part))
        yield from (word for one in parts for word in _words_in(one))
    elif isinstance(part, tuple):
        yield from (word for one in part for word in _words_in(one))
    elif isinstance(part, BaseModel):
        yield type(part).__name__
        for name, about in type(part).model_fields.items():
            value, said = getattr(part, name), f"{_owner(type(part), name)}.{name}"
            yield f"{said}={value}" if _choices(about.annotation) else said if value != about.default else ""
            yield from _words_in(value)


def _owner(kind: type[BaseModel], name: str) -> str:
    # An argument that all losses share need not be given to each of them.
    bases = [c for c in kind.__mro__ if name in vars(c).get("__annotations__", {})]
    return bases[-1].__name__


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for inner in get_args(annotation) for choice in _choices(inner)]

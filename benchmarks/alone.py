"""A training without the service: `python -m benchmarks.alone loop|trainer`, a TrainOrder on standard input.

`loop`: the engine with its data, train and validate, and nothing that keeps anything. `trainer`: all that a
trainer does, checkpoints too, but those whom it tells are nobody. Prints JSON: when each epoch ended.
"""

import json
import os
import resource
import sys
import time
from typing import Any

from services.spec import TrainSpec
from worker.events import EpochEnded, Event, Failed, PredictRequest, TrainOrder, decode_order
from worker.training import device
from worker.training.building import adapt, build_model, seed_of
from worker.training.engine import choose_engine, make_engine
from worker.training.evaluating import Splits
from worker.training.seeds import seed_epoch, shuffled
from worker.training.trainer import carry_out


def main(kind: str) -> None:
    """Train, and tell what it took."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = decode_order(sys.stdin.buffer.read())
    assert isinstance(order, TrainOrder)
    clock = _Clock()
    if kind == "loop":
        _loop(order, clock)
    else:
        verdict = carry_out(order, clock, tensorflow_preloaded=False)
        if isinstance(verdict, Failed):
            raise SystemExit(f"{verdict.message}\n{verdict.detail}")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    took: dict[str, Any] = {
        "ends": clock.ends,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }
    print(json.dumps(took), file=answers, flush=True)


class _Clock:
    """A listener that only looks at the time; epochs' ends are time.perf_counter()."""

    stop_wanted = False

    def __init__(self) -> None:
        self.ends: list[float] = []

    def send(self, event: Event) -> None:
        """Note the end of an epoch."""
        if isinstance(event, EpochEnded):
            self.ends.append(time.perf_counter())

    def next_request(self) -> PredictRequest | None:
        """Nobody asks."""
        return None


def _loop(order: TrainOrder, clock: _Clock) -> None:
    place = device.set_up(order.device)
    spec = TrainSpec.model_validate(order.spec)
    splits = Splits(order.dataset, spec)
    model = build_model(spec, splits.schema)
    adapt(model, splits.unsealed, splits.cut.train)
    choice = choose_engine(spec.fit.engine, model, splits.steps_an_epoch, is_gpu=place.is_gpu)
    engine = make_engine(choice.name, model, spec.fit.batch_size)
    for epoch in range(spec.fit.epochs):
        seed_epoch(model, seed_of(spec), epoch)
        engine.train(splits.feed, shuffled(splits.cut.train, seed_of(spec), epoch), lambda part: None)
        engine.evaluate(splits.feed, splits.cut.validation, lambda part: None)
        clock.ends.append(time.perf_counter())


if __name__ == "__main__":
    main(sys.argv[1])

"""The matrix products of an epoch and nothing else: what is the same whoever multiplies."""

from collections.abc import Callable
from typing import Any

from benchmarks.contenders.turns import Order, Turns, choose_threads
from benchmarks.limit import Product, products_of_a_step, steps_of_an_epoch


def repeat(
    order: Order,
    turns: Turns,
    call_of: Callable[[Product], Callable[[], Any]],
    set_threads: Callable[[int], object],
) -> None:
    """Each step's products on the same arrays, which stay in the cache where they fit."""
    steps = [
        (count, [call_of(product) for product in products_of_a_step(size, order["inputs"], order["layers"])])
        for count, size in steps_of_an_epoch(order["rows"], order["batch_size"])
    ]
    turns.threads = choose_threads(lambda: _epoch(steps), set_threads)
    while turns.wait():
        for _ in range(order["epochs_a_turn"]):
            _epoch(steps)
        turns.done(0.0)


def _epoch(steps: list[tuple[int, list[Callable[[], Any]]]]) -> None:
    for count, calls in steps:
        for _ in range(count):
            for call in calls:
                call()

"""What benchmarks make of their measurements."""

import pytest

from benchmarks.engine import ratios, with_limit
from benchmarks.growth import exponents
from benchmarks.limit import (
    Product,
    operations_of_an_epoch,
    products_of_a_step,
    steps_of_an_epoch,
)
from benchmarks.report import PAGE, SECTIONS, filled, standing
from benchmarks.summary import exponent, percentile, spread
from benchmarks.table import markdown_table, seconds, text_table
from benchmarks.throughput import summary


def test_a_step_has_no_gradient_of_the_first_layers_input() -> None:
    assert products_of_a_step(32, 784, (300, 10)) == [
        Product(32, 784, 300, ""),
        Product(32, 300, 10, ""),
        Product(300, 32, 10, "left"),
        Product(784, 32, 300, "left"),
        Product(32, 10, 300, "right"),
    ]


@pytest.mark.parametrize(
    ("rows", "batch", "expected"),
    [(64, 32, [(2, 32)]), (70, 32, [(2, 32), (1, 6)]), (6, 32, [(1, 6)])],
)
def test_the_smaller_batch_comes_last(rows: int, batch: int, expected: list[tuple[int, int]]) -> None:
    assert steps_of_an_epoch(rows, batch) == expected


def test_the_operations_of_an_epoch_do_not_depend_on_the_batch_size() -> None:
    by_hand = 2 * 70 * (2 * 784 * 300 + 3 * 300 * 10)
    assert {operations_of_an_epoch(70, batch, 784, (300, 10)) for batch in (1, 32, 4096)} == {by_hand}


def test_the_limit_is_the_faster_of_those_who_only_multiply() -> None:
    epochs = with_limit(
        [_epoch("model.fit", 6.0), _epoch("products: NumPy", 3.0), _epoch("products: x", 2.0)]
    )
    assert [(one["contender"], one.get("by")) for one in epochs] == [("model.fit", None), ("limit", "x")]
    assert ratios({"epochs": epochs})["model.fit"] == (1.0, 3.0)


def _epoch(contender: str, median: float) -> dict[str, object]:
    return {"contender": contender, "seconds": {"median": median}}


def test_the_exponent_of_a_power_is_found() -> None:
    assert exponent([1, 4, 16], [5, 5 * 4**0.7, 5 * 16**0.7]) == pytest.approx(0.7)


def test_a_spread_has_the_median_and_the_ends() -> None:
    summary = spread([3.0, 1.0, 2.0])
    assert (summary.median, summary.low, summary.high, summary.count) == (2.0, 1.0, 3.0, 3)
    assert summary.share == 0.5


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile(range(1, 101), share) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(12.34, "12.3 s"), (0.1234, "123 ms"), (0.00789, "7.89 ms"), (0.0000456, "45.6 µs")],
)
def test_seconds_have_three_figures(value: float, expected: str) -> None:
    assert seconds(value) == expected


def test_tables_line_up() -> None:
    assert text_table(["a", "bcd"], [["long", "1"]]).splitlines() == ["a     bcd", "----  ---", "long    1"]
    assert markdown_table(["a", "b"], [["c", "1"]]).splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        "| c | 1 |",
    ]


def test_jobs_a_minute_count_from_the_first_submit_to_the_last_end() -> None:
    timings = [
        {
            "created_at": f"2026-01-01T00:00:0{number}+00:00",
            "finished_at": f"2026-01-01T00:00:{10 * number + 10}+00:00",
            "first_epoch_seconds": float(number),
        }
        for number in range(3)
    ]
    told = summary(timings)
    assert (told["jobs"], told["jobs_a_minute"]) == (3, 6.0)
    assert told["first_epoch"] == {"p50": 1.0, "p99": 2.0}
    assert told["end"] == {"p50": 19.0, "p99": 28.0}


def test_growth_is_fitted_for_time_and_memory() -> None:
    points = [{"size": n, "seconds": {"median": 3 * n}, "memory_mb": 7 * n**2} for n in (1, 2, 4)]
    fitted = exponents(points)
    assert fitted == {"exponent_of_time": pytest.approx(1), "exponent_of_memory": pytest.approx(2)}


def test_the_page_has_a_place_for_each_section() -> None:
    page = PAGE.read_text()
    for name in SECTIONS:
        assert f"<!-- {name} -->\n\nnew\n\n<!-- end of {name} -->" in filled(page, name, "new")
    with pytest.raises(ValueError, match="no marks for other"):
        filled(page, "other", "new")


def test_a_loss_is_called_one() -> None:
    medians = {"Trainshed xla": 2.0, "Trainshed graph": 4.0, "model.fit": 8.0, "JAX scan": 1.0, "limit": 0.5}
    epochs = [_epoch(name, median) for name, median in medians.items()]
    last = standing({"races": [{"workload": "w", "batch_size": 32, "epochs": epochs}]}).splitlines()[-1]
    assert last == "| w, batch 32 | xla 2.00 s | JAX scan 1.00 s | 2.00 ×, slower | 0.25 × |"

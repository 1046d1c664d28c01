"""Lines of a trainer's log, however its output is cut into pieces."""

import pytest

from worker.log_lines import LONGEST_WAIT, LogLines

NOISY = (
    b"before\n"
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"E0000 text_format.cc:378] Error parsing text-format tensorflow.XlaSerializedCacheEntry: 2:1\n"
    b"after\nno end"
)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_noise_is_left_out_and_all_else_is_kept(size: int) -> None:
    lines = LogLines()
    pieces = [NOISY[first : first + size] for first in range(0, len(NOISY), size)]
    assert b"".join(map(lines.take, [*pieces, b""])) == b"before\nafter\nno end"


def test_a_line_without_an_end_is_not_kept_back_for_ever() -> None:
    lines = LogLines()
    assert lines.take(b"x" * LONGEST_WAIT) == b""
    assert lines.take(b"x") == b"x" * (LONGEST_WAIT + 1)

"""What a trainer says goes through a real pipe, whether or not anybody reads it just now."""

import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from worker.events import EpochEnded, Event, Progress, SavedCheckpoint, StartedUp, decode_all
from worker.outbox import SECONDS_BETWEEN, Outbox


def epoch(number: int, *, has_checkpoint: bool = False) -> EpochEnded:
    file = (
        SavedCheckpoint(f"/data/e{number}-f1.npz", number, 1000, "a" * 64, 0.01) if has_checkpoint else None
    )
    return EpochEnded(number, {"loss": 0.5, "val_loss": 0.6}, 0.1, 0.016, 96, file)


def read(pipe: Connection, count: int) -> list[list[Event]]:
    """Messages until so many events came."""
    messages: list[list[Event]] = []
    while sum(map(len, messages)) < count:
        assert pipe.poll(10)
        messages.append(decode_all(pipe.recv_bytes()))
    return messages


def test_a_supervisor_that_does_not_read_holds_nobody_up() -> None:
    theirs, ours = Pipe()
    outbox = Outbox(ours.send_bytes)
    told = [epoch(number, has_checkpoint=number % 100 == 0) for number in range(3000)]
    began = time.monotonic()
    for event in told:
        outbox.put(event)
    # Nobody has read yet, and they are more than ten times what the pipe holds.
    assert time.monotonic() - began < 5
    messages = read(theirs, len(told))
    assert [event for message in messages for event in message] == told
    outbox.drain()


def test_epochs_that_follow_each_other_fast_travel_together() -> None:
    theirs, ours = Pipe()
    outbox = Outbox(ours.send_bytes)
    outbox.put(epoch(0))
    assert read(theirs, 1) == [[epoch(0)]]
    for number in range(1, 20):
        outbox.put(epoch(number))
    assert len(read(theirs, 19)) == 1


def test_the_first_epoch_and_one_with_a_checkpoint_do_not_wait() -> None:
    theirs, ours = Pipe()
    outbox = Outbox(ours.send_bytes)
    waited = []
    for event in (StartedUp({"fork": 0.1}), epoch(0), *(epoch(n, has_checkpoint=True) for n in range(1, 9))):
        began = time.monotonic()
        outbox.put(event)
        if isinstance(event, EpochEnded):
            while event not in read(theirs, 1)[-1]:
                pass
            waited.append(time.monotonic() - began)
    assert sorted(waited)[len(waited) // 2] < SECONDS_BETWEEN / 2


def test_a_progress_that_is_out_of_date_is_not_told() -> None:
    theirs, ours = Pipe()
    outbox = Outbox(ours.send_bytes)
    outbox.put(epoch(0))
    read(theirs, 1)
    for share in range(100):
        outbox.put(Progress(1, share / 100, {"loss": 0.5}))
    outbox.put(epoch(1, has_checkpoint=True))
    told = [event for message in read(theirs, 1) for event in message]
    assert told == [epoch(1, has_checkpoint=True)]

"""Ends the stack's processes when `up` is gone without having done so itself, as after SIGKILL.

`python -m trainshed.warden <home>/pids PID BORN`, with a pipe from `up` as its standard input: the end of
that pipe is the end of `up`. A signal on the parent's death (PR_SET_PDEATHSIG) would reach the children and
not what they started.
"""

import signal
import sys
import time
from pathlib import Path

from trainshed.processes import Process, end, read_register

ALL_ENDED = b"all ended\n"  # what `up` says when there is nothing left to do
GRACE = 5.0  # seconds


def main(pids: Path, owner: Process) -> None:
    """Waits for the end of `up`, then ends what its register still names."""
    for one in (signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    if sys.stdin.buffer.read() == ALL_ENDED:
        return
    # A process's files are closed a moment before it is gone.
    while owner.is_alive:
        time.sleep(0.02)
    register = read_register(pids)
    # A new `up` on this home has cleaned up already and has a register of its own.
    if register is not None and register.owner == owner:
        end(register.children, grace=GRACE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Process(int(sys.argv[2]), sys.argv[3]))

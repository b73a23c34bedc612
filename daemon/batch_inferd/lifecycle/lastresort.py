"""The end of a daemon that cannot end: a thread may wait in the kernel for ever, for a disk that is gone.

Python waits for all threads at its end, and the workspace stays locked meanwhile. Everything that counts
is on disk already, and the next daemon recovers, as after a kill.
"""

from __future__ import annotations

import faulthandler
import sys

# From the decision to end on. In order it takes the drain's 15 s, some for the tasks, and the disk's time.
END_S = 60.0


def arm() -> None:
    """End the process in `END_S` at the latest, with the stacks of all threads on stderr.

    No thread of Python's is needed for that, nor its interpreter lock.
    """
    if sys.stderr is not None:
        faulthandler.dump_traceback_later(END_S, exit=True)

"""What this process has sent and received over the network: sums of bytes, for all of its threads.

Counted are the bodies of calls, batch files and fetched images as they are before compression; not the
headers, and not what TLS adds.
"""

from __future__ import annotations

import threading


class Traffic:
    """Sums of bytes, which only grow. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent = 0
        self._received = 0

    def add(self, *, sent: int = 0, received: int = 0) -> None:
        """So many bytes more have gone out, or come in."""
        with self._lock:
            self._sent += sent
            self._received += received

    def totals(self) -> tuple[int, int]:
        """All that was sent and received since the process began."""
        with self._lock:
            return self._sent, self._received


TRAFFIC = Traffic()

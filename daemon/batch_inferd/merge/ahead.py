"""Work done ahead in a thread: the next items are made ready while the caller is busy with the last one."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")


class _End(Generic[R]):
    """The last thing in the queue. `error` is what ended the thread, None at the end of the items."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


@contextlib.contextmanager
def ahead(
    items: Iterable[T], prepare: Callable[[T], R], drop: Callable[[R], None], most: int
) -> Generator[Iterator[R]]:
    """Gives an iterator of prepare(item) for all items, in order, made in a thread.

    Args:
        items: drawn in the thread.
        prepare: called in the thread; what it raises is raised by the iterator, after what came before.
        drop: called, in the end, for what was prepared and never taken.
        most: how many prepared items may wait.

    When the context ends, the thread has ended.
    """
    waiting: queue.Queue[R | _End[R]] = queue.Queue(most)
    stopped = threading.Event()

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                waiting.put(
                    prepare(item)
                )  # an item that was drawn is prepared, and then dropped: it may be a file
                if stopped.is_set():
                    break
        except BaseException as raised:  # noqa: BLE001  it is the caller's, who gets it below
            error = raised
        waiting.put(_End(error))

    def results() -> Iterator[R]:
        while not isinstance(found := waiting.get(), _End):
            yield found
        ended.append(found)
        if found.error is not None:
            raise found.error

    ended: list[_End[R]] = []
    thread = threading.Thread(target=work, name="merge-ahead", daemon=True)
    thread.start()
    try:
        yield results()
    finally:
        stopped.set()
        while not ended:
            left = waiting.get()
            if isinstance(left, _End):
                ended.append(left)
            else:
                drop(left)
        thread.join()

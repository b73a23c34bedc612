"""What an input weighs, and how that is spread over it: a small one is read whole, of a large one a sample.

A survey is made of strata, equal slices of the file's bytes. Of each, a block from a place within is read;
what it holds stands for all of its slice. Memory and time do not grow with the input.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, NamedTuple

from batch_infer.protocol.regular import open_regular
from batch_inferd.lines import BOM
from batch_inferd.money.tokens import Weight, unseen, weigh
from batch_inferd.seams.files import read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from batch_inferd.money.tokens import View

STRATA = 256
WHOLE_BYTES = 2 * 2**20  # an input of no more is read whole
BLOCK_BYTES = WHOLE_BYTES // STRATA
_ENOUGH = 32  # lines
_LONGEST = 2**20  # bytes in which a line must end to be looked at


class Stratum(NamedTuple):
    """A slice of the input: its records and what they weigh, guessed where only a part was read."""

    records: float
    tokens: float
    images: float
    image_tokens: float = 0.0

    @property
    def total(self) -> float:
        """All tokens, those of images too."""
        return self.tokens + self.image_tokens


class Survey(NamedTuple):
    """The strata in the input's order. `exact`: every record was read; `read` is how many were."""

    strata: tuple[Stratum, ...]
    exact: bool
    read: int

    @property
    def records(self) -> float:
        """Of the whole input."""
        return sum(stratum.records for stratum in self.strata)

    def first(self, records: float) -> Stratum:
        """What the first records weigh together."""
        count = 0.0
        weights = [0.0, 0.0, 0.0]
        for stratum in self.strata:
            left = records - count
            if left <= 0:
                break
            part = min(1.0, left / stratum.records) if stratum.records else 1.0
            count += part * stratum.records
            weights = [total + part * more for total, more in zip(weights, stratum[1:], strict=True)]
        return Stratum(count, *weights)


def survey(
    path: str,
    size: int,
    messages_key: str,
    stop: Callable[[], bool] = lambda: False,
    view: View = unseen,
) -> Survey:
    """Survey the first `size` bytes of a file of JSON lines. Blocks. Raises OSError."""
    fd = open_regular(path)
    try:
        if size <= WHOLE_BYTES:
            return of_lines(_split(read_at(fd, size, 0).removeprefix(BOM)), messages_key, view)
        return _sampled(fd, size, messages_key, stop, view)
    finally:
        os.close(fd)


def of_lines(lines: Iterable[bytes], messages_key: str, view: View = unseen) -> Survey:
    """The survey of records that are all at hand, in order."""
    return of_weights([weigh(line, messages_key, view) for line in lines])


def of_weights(weights: Sequence[Weight]) -> Survey:
    """As `of_lines`, of what they weigh."""
    count = len(weights)
    strata = []
    for n in range(min(STRATA, count)):
        part = weights[n * count // min(STRATA, count) : (n + 1) * count // min(STRATA, count)]
        strata.append(Stratum(len(part), *sum(part, Weight())))
    return Survey(tuple(strata), exact=True, read=count)


class _Sample(NamedTuple):
    """What the lines of a block are: of a slice of `bytes`, `seen` were looked at."""

    bytes: int
    seen: int
    records: int
    weight: Weight


def _sampled(fd: int, size: int, messages_key: str, stop: Callable[[], bool], view: View) -> Survey:
    dice = random.Random(size)  # noqa: S311  the same sample each time
    samples: list[_Sample] = []
    for n in range(STRATA):
        if stop():
            break
        begin, end = n * size // STRATA, (n + 1) * size // STRATA
        lines, seen = _block(fd, dice.randint(begin, max(begin, end - BLOCK_BYTES)), size)
        weights = [weigh(line, messages_key, view) for line in lines if line.strip()]
        samples.append(_Sample(end - begin, seen, len(weights), sum(weights, Weight())))
    strata = [stratum for group in _grouped(samples) for stratum in _extrapolated(group)]
    return Survey(tuple(strata), exact=False, read=sum(sample.records for sample in samples))


def _grouped(samples: list[_Sample]) -> list[list[_Sample]]:
    """Neighbours together until they have lines enough: few long lines say little of how many there are."""
    groups: list[list[_Sample]] = [[]]
    for sample in samples:
        if sum(one.records for one in groups[-1]) >= _ENOUGH:
            groups.append([])
        groups[-1].append(sample)
    if len(groups) > 1 and sum(one.records for one in groups[-1]) < _ENOUGH:
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def _extrapolated(group: list[_Sample]) -> list[Stratum]:
    seen = sum(sample.seen for sample in group)
    records = sum(sample.records for sample in group)
    sums = (records, *sum((sample.weight for sample in group), Weight()))
    return [Stratum(*(sample.bytes * total / seen if seen else 0.0 for total in sums)) for sample in group]


def _block(fd: int, at: int, size: int) -> tuple[list[bytes], int]:
    """The lines that begin in the block at `at`, one at least, and the bytes of the input that they are."""
    stop = min(at + BLOCK_BYTES, size)
    begin = 0 if at == 0 else _after_newline(fd, at - 1, size)
    end = size if begin is None or stop >= size else _after_newline(fd, max(begin, stop - 1), size)
    if begin is None or end is None:
        return [], 0  # a line that is too long to be looked at
    data = read_at(fd, end - begin, begin)
    return (data.removeprefix(BOM) if at == 0 else data).split(b"\n"), len(data)


def _after_newline(fd: int, at: int, size: int) -> int | None:
    """The offset behind the first newline from `at` on; None where that is far away."""
    begin = at
    while at < min(size, begin + _LONGEST):
        data = read_at(fd, BLOCK_BYTES, at)
        found = data.find(b"\n")
        if found >= 0:
            return min(size, at + found + 1)
        if not data:
            break
        at += len(data)
    return size if at >= size else None


def _split(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n") if line.strip()]

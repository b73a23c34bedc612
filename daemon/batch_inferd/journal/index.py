"""A sealed journal's last line: where its terminal records stand, and what merge counts of them.

    {"k":"index","round":0,"bytes":48210,"checksum":…,"lines":[1,200],"at":[…],"end":[…],"errors":{"server":[7]},
     "missing":[9],"attempts":203,"failed":5,"retries":4,"failures":{"server":5},"tokens":[…,…,0],
     "ms":[…,…],"buckets":[…],"cached":0,"crc":"…"}

`checksum` is the CRC-32 of the `bytes` before this line: with it, all of the journal is verified at
once. `lines` are the terminal records' lines, as pairs of a first line and a number of lines; `at` and
`end` say for each of them, in this order, where its `rec` stands (0, 0: a missing record). `tokens` are
those in, those out, and the answers that did not tell both; `ms` the sum of all durations and the
longest; `buckets` pairs of a bucket of the histogram and the durations in it. `cached` of the tokens in
came from the service's cache; an index of an earlier version does not say.

An index is a help, never needed: who does not find one that fits reads the journal line by line.
"""

from __future__ import annotations

import zlib
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from batch_inferd.journal.format import TAIL, DamagedLine, is_sealed, seal
from batch_inferd.journal.latencies import BUCKETS, count_buckets

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 20_000  # records: the index of more is not worth its memory
_END = TAIL + 1  # bytes that follow a `rec`
# Where in a line the byte is in which the kinds differ: ans(w)er, err(o)r, mis(s)ing, att(e)mpt, ind(e)x.
_MARK = len(b'{"k":"ans')


class Index(msgspec.Struct, tag_field="k", tag="index", frozen=True):
    """The line as it stands in the journal, see above."""

    round: int
    bytes: int
    checksum: int
    lines: list[int]
    at: list[int]
    end: list[int]
    errors: dict[str, list[int]]
    missing: list[int]
    attempts: int
    failed: int
    retries: int
    failures: dict[str, int]
    tokens: tuple[int, int, int]
    ms: tuple[int, int]
    buckets: list[int]
    cached: int = 0

    def line_numbers(self) -> list[int]:
        """The lines of all terminal records, in order."""
        return list(chain.from_iterable(range(first, first + n) for first, n in _pairs(self.lines)))

    def histogram(self) -> list[tuple[int, int]]:
        """Buckets and how many durations each holds."""
        return _pairs(self.buckets)


# line, begin and end of rec, ms, attempt, tokens in and out
_Answer = tuple[int, int, int, int, int, int | None, int | None]
_decode = msgspec.json.Decoder(Index).decode


class Kinds(NamedTuple):
    """How many terminal records of each kind a journal has."""

    answers: int
    errors: int
    missing: int


class KindCounter:
    """Counts the lines of a journal by kind, block after block. It parses none: verify its checksum too."""

    def __init__(self) -> None:
        self._mark = _MARK  # where the mark of the line that is being read stands; negative: it was met
        self._counts = [0, 0, 0]

    def feed(self, data: bytes | bytearray, size: int) -> None:
        """The next block: the first `size` bytes of `data`."""
        marks: list[int] = []
        if 0 <= self._mark < size:
            marks.append(data[self._mark])
        self._mark -= size
        append, find, end = marks.append, data.find, size - _MARK - 1
        at = 0
        while at := find(b"\n", at, end) + 1 if end > 0 else 0:
            append(data[at + _MARK])
        last = data.find(b"\n", max(0, end), size)
        if last >= 0:
            self._mark = last + 1 + _MARK - size
        found = bytes(marks)
        for kind, mark in enumerate(b"wos"):
            self._counts[kind] += found.count(mark)

    def kinds(self) -> Kinds:
        """The terminal records so far."""
        return Kinds(*self._counts)


class IndexBuilder:
    """Collects what one lease writes, some 250 bytes a record; only for what stands in the journal."""

    def __init__(self, round: int) -> None:  # noqa: A002  as the journal names it
        self._round = round
        self._answers: list[_Answer] = []
        self._others: list[tuple[int, int, int, int]] = []  # line, begin and end of rec, attempt
        self._errors: dict[str, list[int]] = {}
        self._missing: list[int] = []
        self._failures: Counter[str] = Counter()
        self._retries = 0
        self._cached = 0

    @property
    def records(self) -> int:
        """Terminal records so far; no more than one beyond `MOST` of the answers."""
        return len(self._answers) + len(self._others)

    def answer(
        self,
        line: int,
        at: int,
        size: int,
        rec: int,
        ms: int,
        attempt: int,
        tokens_in: int | None,
        tokens_out: int | None,
        tokens_cached: int | None = None,
    ) -> None:
        """An answer of line `line`: `size` bytes with the newline, at offset `at`; `rec` is its rec's."""
        if tokens_cached:
            self._cached += tokens_cached
        if len(self._answers) <= MOST:
            end = at + size - _END
            self._answers.append((line, end - rec, end, ms, attempt, tokens_in, tokens_out))

    def error(self, line: int, at: int, size: int, rec: int, attempt: int, failure: str) -> None:
        """The record of line `line` failed for good, with class `failure`; the rest as with an answer."""
        self._others.append((line, at + size - rec - _END, at + size - _END, attempt))
        self._errors.setdefault(failure, []).append(line)

    def missing(self, line: int, attempt: int) -> None:
        """No answer came for line `line`."""
        self._others.append((line, 0, 0, attempt))
        self._missing.append(line)

    def attempt(self, failure: str, charged: bool) -> None:
        """A failed attempt that was not the end."""
        self._failures[failure] += 1
        self._retries += charged

    def encode(self, size: int, checksum: int) -> bytes | None:
        """The index as a line of the journal, which has `size` bytes with the CRC-32 `checksum` so far.

        None where none is to be written: of no records, of too many, or of two of one line.
        """
        if not 0 < self.records <= MOST:
            return None
        rows = sorted(
            [(row[0], row[1], row[2]) for row in self._answers]
            + [(row[0], row[1], row[2]) for row in self._others]
        )
        order = [row[0] for row in rows]
        if len(set(order)) != len(order):
            return None
        durations = [max(0, row[3]) for row in self._answers]
        histogram = count_buckets(durations)
        errors = ((failure, sorted(failed)) for failure, failed in self._errors.items())
        index = Index(
            round=self._round,
            bytes=size,
            checksum=checksum,
            lines=_runs(order),
            at=[row[1] for row in rows],
            end=[row[2] for row in rows],
            errors=dict(sorted(errors, key=lambda item: item[1])),
            missing=sorted(self._missing),
            attempts=sum(row[4] for row in self._answers) + sum(row[3] for row in self._others),
            failed=self._failures.total(),
            retries=self._retries,
            failures=dict(self._failures),
            tokens=(
                sum(row[5] or 0 for row in self._answers),
                sum(row[6] or 0 for row in self._answers),
                sum(1 for row in self._answers if row[5] is None or row[6] is None),
            ),
            ms=(sum(durations), max(durations, default=0)),
            buckets=list(chain.from_iterable(histogram.items())),
            cached=self._cached,
        )
        return seal(msgspec.json.encode(index)[:-1])


def decode_index(line: bytes) -> Index:
    """The index of a line, with or without its newline. Raises DamagedLine."""
    line = line.removesuffix(b"\n")
    sealed = line[:-TAIL]
    if not is_sealed(zlib.crc32(sealed), line[-TAIL:]):
        raise DamagedLine("the checksum does not fit")
    try:
        index = _decode(sealed + b"}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedLine(str(error)) from error
    if not _is_whole(index):
        raise DamagedLine("an index that does not fit together")
    return index


def _is_whole(index: Index) -> bool:
    counts, buckets = index.lines[1::2], index.buckets[::2]
    return (
        len(index.lines) == 2 * len(counts)
        and len(index.buckets) == 2 * len(buckets)
        and len(index.at) == len(index.end) == sum(counts) <= MOST
        and min(counts, default=0) > 0
        and 0 <= min(buckets, default=0) <= max(buckets, default=0) < BUCKETS
        and min(index.at, default=0) >= 0
        and max(index.end, default=0) <= index.bytes
    )


def _runs(numbers: Iterable[int]) -> list[int]:
    """Growing numbers as pairs of a first one and how many follow each other from it."""
    runs: list[int] = []
    expected = None
    for number in numbers:
        if number == expected:
            runs[-1] += 1
        else:
            runs += (number, 1)
        expected = number + 1
    return runs


def _pairs(flat: list[int]) -> list[tuple[int, int]]:
    return list(zip(flat[::2], flat[1::2], strict=True))

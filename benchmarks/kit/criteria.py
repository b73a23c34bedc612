"""What was promised, and whether a run of the benchmarks shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MET, NOT_MET, NOT_MEASURED = "met", "not met", "not measured"
ONE_CORE = "asyncio, one core"
MOST_MB = 150.0
SPREAD = 0.10
COPIES = 2.0  # a large body is held once as it is sent or came, and once as it is read or written


class Verdict(NamedTuple):
    """A promise, what was found (for people), and the verdict."""

    promise: str
    found: str
    verdict: str


def verdicts(results: dict[str, Any]) -> list[Verdict]:
    """All promises, in order. `results` are those of run.py, by benchmark; what is absent is not measured."""
    found = []
    for promise, check in _CHECKS.items():
        try:
            said, met = check(results)
        except (KeyError, TypeError, ValueError):
            found.append(Verdict(promise, "", NOT_MEASURED))
        else:
            found.append(Verdict(promise, said, MET if met else NOT_MET))
    return found


def spread(peaks: list[float]) -> float:
    """How far the peaks are from their middle, as a part of it."""
    middle = (min(peaks) + max(peaks)) / 2
    return (max(peaks) - middle) / middle


def _ratio(results: dict[str, Any], name: str) -> float:
    return float(results["throughput"]["ratios"][name])


def _curator(results: dict[str, Any]) -> tuple[str, bool]:
    ratio = _ratio(results, "to curator")
    return f"{ratio:.1f} ×", ratio >= 20


def _wrk(results: dict[str, Any]) -> tuple[str, bool]:
    ratio = _ratio(results, "to wrk")
    return f"{ratio:.1%}", ratio >= 0.10


def _scaling(results: dict[str, Any]) -> tuple[str, bool]:
    ratio = _ratio(results, "per CPU second, multiprocessing 2 to asyncio")
    return f"{ratio:.2f} ×", ratio >= 0.85


def _peaks(results: dict[str, Any]) -> dict[int, list[float]]:
    peaks: dict[int, list[float]] = {}
    for each in results["memory"]["small"]:
        peaks.setdefault(each["concurrency"], []).append(each["pss_mb"]["sum"])
    return peaks


def _small(results: dict[str, Any]) -> tuple[str, bool]:
    peaks = _peaks(results)
    said = ", ".join(f"{max(each):.0f} MB with {calls:,} calls" for calls, each in peaks.items())
    return said, max(max(each) for each in peaks.values()) <= MOST_MB


def _flat(results: dict[str, Any]) -> tuple[str, bool]:
    spreads = {calls: spread(each) for calls, each in _peaks(results).items() if len(each) > 1}
    said = ", ".join(f"± {each:.1%} with {calls:,} calls" for calls, each in spreads.items())
    return said, max(spreads.values()) <= SPREAD


def _bounded(what: str) -> Callable[[dict[str, Any]], tuple[str, bool]]:
    def check(results: dict[str, Any]) -> tuple[str, bool]:
        runs = [each for each in results["memory"]["large"] if each["what"] == what]
        runs.sort(key=lambda each: each["bytes_in_flight"])
        said = ", ".join(
            f"{each['pss_mb']['sum']:.0f} MB with {each['bytes_in_flight'] >> 20} MiB" for each in runs
        )
        peaks = [each["pss_mb"]["sum"] for each in runs]
        return said, runs[-1]["beyond_small_to_limit"] <= COPIES and peaks == sorted(peaks)

    return check


def _status(results: dict[str, Any]) -> tuple[str, bool]:
    p99 = results["latency"]["under_load"]["status"]["p99_ms"]
    return f"{p99} ms", p99 < 50


def _half(name: str) -> Callable[[dict[str, Any]], tuple[str, bool]]:
    def check(results: dict[str, Any]) -> tuple[str, bool]:
        ratio = float(results[name]["ratio"])
        return f"{ratio:.2f} ×", ratio >= 0.5

    return check


def _first_request(results: dict[str, Any]) -> tuple[str, bool]:
    cold, warm = (float(results["first_request"][name]) for name in ("cold_s", "warm_s"))
    return f"{cold:.2f} s, {warm:.2f} s with a daemon that runs", max(cold, warm) < 1


_CHECKS: dict[str, Callable[[dict[str, Any]], tuple[str, bool]]] = {
    "end to end on one worker core: at least 20 × curator": _curator,
    "end to end on one worker core: at least 10 % of wrk": _wrk,
    "records a worker CPU second, two processes: at least 0.85 × one": _scaling,
    "memory of daemon and one worker, bodies of 1 KB: at most 150 MB": _small,
    "the same memory (± 10 %) at 10,000, 100,000 and 1,000,000 records": _flat,
    "memory with requests of 5 MB: bounded by `bytes_in_flight`": _bounded("requests of 5 MB"),
    "memory with answers of 5 MB: bounded by `bytes_in_flight`": _bounded("answers of 5 MB"),
    "a status request while a task runs at full speed: under 50 ms at p99": _status,
    "splitting: at least 0.5 × `split -l`, both with fsync": _half("splitting"),
    "merging: at least 0.5 × `cat`, both with fsync": _half("merging"),
    "first request of an input of 10 GB: within a second": _first_request,
}

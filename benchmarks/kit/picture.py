"""Throughput and memory, by records and by calls at a time, as a picture (SVG; no display is needed)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.criteria import MOST_MB, ONE_CORE

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

OURS, THEIRS, CEILING = "#1f6f8b", "#b0b7bc", "#dfe3e6"


def draw(results: dict[str, Any], path: Path) -> None:
    """Writes the picture to `path`; the same results give the same bytes. ImportError without matplotlib."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams |= {
        "svg.hashsalt": "batch_infer",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.axisbelow": True,
    }
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (speed, memory), (speeds, memories) = figure.subplots(2, 2)
    _bars(speed, "requests a second on one core (log scale)", _speeds(results), log=True)
    _bars(memory, "peak memory (PSS), MB", _memories(results), log=False)
    _lines(speeds, "records a second, end to end", results, lambda run: run["per_s"])
    _lines(memories, "peak memory, end to end (PSS), MB", results, lambda run: run["pss_mb"]["sum"])
    memories.axhline(MOST_MB, color="#a33", linestyle=":", linewidth=1)
    memories.set_ylim(0, MOST_MB * 1.1)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _speeds(results: dict[str, Any]) -> dict[str, tuple[float, str]]:
    found = results.get("throughput", {})
    bars = {}
    for connections, figure in found.get("wrk", {}).items():
        if "per_s" in figure:
            bars[f"wrk, {int(connections):,}"] = (figure["per_s"], CEILING)
    for name, run in found.get("ours", {}).items():
        if name.startswith(ONE_CORE):
            bars[f"batch_infer, {run['concurrency']:,}"] = (run["per_s"], OURS)
    return bars | _peers(found, "per_s")


def _memories(results: dict[str, Any]) -> dict[str, tuple[float, str]]:
    found = results.get("throughput", {})
    bars = {
        f"batch_infer, {run['concurrency']:,}": (run["pss_mb"]["sum"], OURS)
        for name, run in found.get("ours", {}).items()
        if name.startswith(ONE_CORE)
    }
    return bars | _peers(found, "pss_mb")


def _peers(found: dict[str, Any], figure: str) -> dict[str, tuple[float, str]]:
    return {
        f"{name}, {peer['concurrency']}": (peer[figure], THEIRS)
        for name, peer in found.get("peers", {}).items()
        if figure in peer
    }


def _bars(axes: Axes, title: str, bars: dict[str, tuple[float, str]], *, log: bool) -> None:
    names = list(bars)[::-1]
    drawn = axes.barh(names, [bars[name][0] for name in names], color=[bars[name][1] for name in names])
    axes.bar_label(drawn, labels=[f"{bars[name][0]:,.0f}" for name in names], padding=3)
    axes.set_title(title)
    if log and bars:
        axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _lines(axes: Axes, title: str, results: dict[str, Any], figure: Any) -> None:
    runs = results.get("memory", {}).get("small", [])
    for calls, colour in zip(sorted({run["concurrency"] for run in runs}), (OURS, "#d9822b"), strict=False):
        points = [(run["records"], figure(run)) for run in runs if run["concurrency"] == calls]
        axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=f"{calls:,} calls at a time")
    axes.set_title(title)
    axes.set_xlabel("records")
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    if runs:
        axes.set_xscale("log")
        axes.legend(frameon=False)
    axes.grid(axis="y", color="#eceff1")
    axes.spines[["top", "right"]].set_visible(False)

"""The results as Markdown: what was promised, and every figure with the command that measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.criteria import ONE_CORE, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = tuple[str, ...]


def markdown(document: dict[str, Any]) -> str:
    """The page's measured part, from what run.py wrote."""
    results = document["results"]
    parts = [_machine(document)]
    if document["short"]:
        parts.append("This is a short run, which only shows that the benchmarks work.")
    promises = [tuple(each) for each in verdicts(results)]
    parts.append(_table("What was promised", ("promise", "found", "verdict"), promises))
    for title, head, rows in _sections(results):
        parts.append(_table(title, head, list(rows)))
    failed = document.get("failed", {})
    if failed:
        parts.append(
            _table("Not measured", ("benchmark", "why"), [(f"`{name}`", why) for name, why in failed.items()])
        )
    return "\n\n".join(part for part in parts if part)


def _machine(document: dict[str, Any]) -> str:
    machine = document["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    tools = ", ".join(f"{name} {version}" for name, version in machine["tools"].items()) or "no nginx, no wrk"
    return (
        f"Measured on {machine['date']} UTC by `{document['command']}` in {document['minutes']} minutes: "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['kernel']}, "
        f"Python {machine['python']}, batch_infer {machine['batch_infer']} with {libraries}; {tools}; "
        f"load before: {machine['load_before']}."
    )


def _table(title: str, head: Row, rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [f"### {title}", "", _line(head), _line(("---",) * len(head)), *(_line(row) for row in rows)]
    return "\n".join(lines)


def _line(cells: Row) -> str:
    return "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in cells) + " |"


def _sections(results: dict[str, Any]) -> Iterator[tuple[str, Row, Iterator[Row]]]:
    head: Row
    if "throughput" in results:
        head = ("who", "requests a second", "ours on one core to it", "per worker CPU second", "peak PSS")
        yield (
            "Throughput (`throughput.py`): requests of 1 KB, answers of 0.5 KB",
            head,
            _throughput(results["throughput"]),
        )
    if "memory" in results:
        head = ("what", "calls at a time", "peak PSS", "daemon", "worker", "records a second")
        yield "Memory of daemon and one worker (`memory.py`)", head, _memory(results["memory"])
    if "latency" in results:
        yield "Latency (`latency.py`)", ("what", "time", "ratio or tail"), _latency(results["latency"])
    if "http_clients" in results:
        head = ("client", "calls at a time", "calls a second", "to wrk", "CPU time a call")
        yield (
            "The HTTP clients alone, on one core (`http_clients.py`)",
            head,
            _clients(results["http_clients"]),
        )
    yield "Everything else", ("what", "number", "measured by"), _others(results)


def _throughput(found: dict[str, Any]) -> Iterator[Row]:
    ours = found["ours"][ONE_CORE]["per_s"]
    for connections, figure in found["wrk"].items():
        rate = figure.get("per_s")
        yield (
            f"wrk against {found['endpoint']}, {int(connections):,} connections",
            _rate(rate) if rate else f"not measured: {figure['not_measured']}",
            f"{ours / rate:.3f} ×" if rate else "",
            "",
            "",
        )
    for name, run in found["ours"].items():
        yield (
            f"**batch_infer, {name}**: end to end, {run['records']:,} records, {run['concurrency']:,} calls",
            _rate(run["per_s"]),
            f"{ours / run['per_s']:.2f} ×",
            _rate(run["records_per_worker_cpu_s"]),
            f"{run['pss_mb']['sum']:.0f} MB with the daemon",
        )
    for name, peer in found["peers"].items():
        if "per_s" not in peer:
            yield name, f"not measured: {peer['not_measured']}", "", "", ""
            continue
        yield (
            f"{name} ({peer['package']} {peer['version']}), one core, {peer['concurrency']} calls",
            _rate(peer["per_s"]),
            f"{ours / peer['per_s']:.1f} ×",
            "",
            f"{peer['pss_mb']:.0f} MB",
        )


def _memory(found: dict[str, Any]) -> Iterator[Row]:
    for run in found["small"]:
        yield f"{run['records']:,} records of 1 KB", *_pss(run)
    for run in found["large"]:
        limit = run["bytes_in_flight"] >> 20
        yield f"{run['records']} {run['what']}, `bytes_in_flight: {limit}MiB`", *_pss(run)


def _pss(run: dict[str, Any]) -> Row:
    pss = run["pss_mb"]
    parts = [f"{pss[name]:.0f} MB" if name in pss else "" for name in ("sum", "daemon", "worker")]
    return (f"{run['concurrency']:,}", *parts, _rate(run["per_s"]))


def _latency(found: dict[str, Any]) -> Iterator[Row]:
    yield '`python -c "import click"`', f"{found['import_click_s']} s", ""
    for name, each in found["commands"].items():
        yield f"`batch_infer {name}`, the daemon running", f"{each['s']} s", f"{each['ratio']} ×"
    load = found["under_load"]
    for method in ("status", "list"):
        if "p99_ms" in load[method]:
            said = f"{load[method]['p99_ms']} ms at p99, {load[method]['max_ms']} ms at most"
            rate = _rate(load["per_s"])
            what = f"`{method}` on an open connection while a task runs at {rate} records a second"
            yield what, f"{load[method]['p50_ms']} ms", said


def _others(results: dict[str, Any]) -> Iterator[Row]:
    if found := results.get("list_latency"):
        said = f'{found["ratio"]} × `python -c "import click"`; limit 3, kept by a test'
        yield "`batch_infer -list` against a running daemon", said, "`list_latency.py`"
    if found := results.get("end_to_end"):
        said = (
            f"{found['ratio']} × a plain aiohttp loop that keeps nothing "
            f"({_rate(found['records_per_s'])} against {_rate(found['plain_loop_per_s'])} a second)"
        )
        yield (
            f"{found['records']:,} records, with the test service on the same cores",
            said,
            "`end_to_end.py`",
        )
    if found := results.get("batch_memory"):
        tenth, whole = found["tasks"]
        said = (
            f"{found['ratio']} × at {whole['lines']:,} lines of what it is at {tenth['lines']:,} "
            f"({whole['peak_sum_mb']} against {tenth['peak_sum_mb']} MB)"
        )
        yield "peak PSS of daemon and workers, as batches on the test service", said, "`batch_memory.py`"
        yield (
            "as batches, from submit to outputs",
            f"{_rate(found['lines_per_s'])} lines a second",
            "`batch_memory.py`",
        )
    for case in results.get("splitting", {}).get("cases", []):
        said = (
            f"{case['ratio']} × `split -l` ({case['cut_mb_per_s']:,} against {case['split_mb_per_s']:,} MB/s)"
        )
        yield f"splitting, {case['lines_per_chunk']:,} lines a chunk", said, "`splitting.py`"
    for case in results.get("merging", {}).get("cases", []):
        said = f"{case['ratio']} × `cat` ({case['merge_mb_per_s']:,} against {case['cat_mb_per_s']:,} MB/s)"
        yield f"merging, answers of {case['answer_bytes']:,} bytes", said, "`merging.py`"
    if found := results.get("first_request"):
        said = f"{found['cold_s']} s with a cold daemon, {found['warm_s']} s with a warm one"
        what = f"from the submit of {found['input_bytes'] / 1e9:.1f} GB to the first request"
        yield what, f"{said}; {found['read_mb']} MB were read", "`first_request.py`"


def _clients(found: dict[str, Any]) -> Iterator[Row]:
    for calls, clients in found["clients"].items():
        ceiling = found["wrk"][calls].get("per_s")
        for name, each in clients.items():
            ratio = f"{each['per_s'] / ceiling:.3f} ×" if ceiling else ""
            yield name, f"{int(calls):,}", _rate(each["per_s"]), ratio, f"{each['cpu_us']:.0f} µs"
        if ceiling:
            yield "wrk", f"{int(calls):,}", _rate(ceiling), "", ""


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"

"""wrk: what the endpoint gives at most, on one core, with the same POST."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
from typing import TYPE_CHECKING, Any

from kit import cores, records

if TYPE_CHECKING:
    from pathlib import Path

    from kit.endpoint import Endpoint

_SCRIPT = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer x"
"""


def ceiling(
    endpoint: Endpoint, folder: Path, *, body_bytes: int, connections: int, runs: int, seconds: int
) -> dict[str, Any]:
    """Requests a second: the median of `runs` of `seconds` each; {"not_measured": why} without wrk."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return {"not_measured": "wrk is not installed"}
    script = folder / "post.lua"
    script.write_text(_SCRIPT.format(body=json.dumps(records.body(0, body_bytes))))
    url = f"{endpoint.base_url()}/chat/completions"
    argv = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    cores.place(endpoint.pid, cores.others())
    rates = []
    for _ in range(runs):
        with cores.children_on(cores.measured()):
            said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        found = re.search(r"Requests/sec:\s+([\d.]+)", said)
        if found is None or "Non-2xx" in said:
            raise RuntimeError(f"wrk said:\n{said}")
        rates.append(float(found[1]))
    return {
        "per_s": round(statistics.median(rates)),
        "runs": [round(rate) for rate in rates],
        "connections": connections,
        "seconds_each": seconds,
    }

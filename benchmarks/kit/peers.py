"""The peers: their environments, made when they are wanted, and a run of each on one core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit import cores
from kit.places import BENCHMARKS, bench, scratch
from kit.sampling import Sampler, of_process

if TYPE_CHECKING:
    from pathlib import Path

    from kit.endpoint import Endpoint

INSTALL_S = 900
RUN_S = 300


@dataclass(frozen=True)
class Peer:
    """A script in peers/, and what is installed for it. `package` is the one whose version is told."""

    name: str
    script: str
    package: str
    environment: str
    variant: str = ""


ENVIRONMENTS = {
    "curator": ("bespokelabs-curator",),
    "clients": ("openai[aiohttp]", "httpx", "aiohttp"),
}
PEERS = (
    Peer("curator", "with_curator.py", "bespokelabs-curator", "curator"),
    Peer("openai SDK", "with_openai.py", "openai", "clients"),
    Peer("openai SDK, its aiohttp client", "with_openai.py", "openai", "clients", "aiohttp"),
    Peer("httpx loop", "with_httpx.py", "httpx", "clients"),
    Peer("aiohttp loop", "with_aiohttp.py", "aiohttp", "clients"),
)


def measure(
    peer: Peer, endpoint: Endpoint, *, records: int, seconds: float, concurrency: int, body_bytes: int
) -> dict[str, Any]:
    """The peer's requests a second and its peak PSS, on one core; {"not_measured": why} where it cannot run.

    The loops go on for `seconds`; curator gets `records`, and is timed from its call to its data set.
    """
    try:
        python = environment(peer.environment)
    except (OSError, subprocess.SubprocessError) as error:
        return {
            "not_measured": f"{' '.join(ENVIRONMENTS[peer.environment])} could not be installed: {_of(error)}"
        }
    cores.place(endpoint.pid, cores.others())
    with scratch("peer") as folder:
        asked = {
            "base_url": endpoint.base_url(),
            "records": records,
            "seconds": seconds,
            "concurrency": concurrency,
            "body_bytes": body_bytes,
            "folder": str(folder),
            "variant": peer.variant,
        }
        env = os.environ | {"PYTHONPATH": str(BENCHMARKS)}  # for kit.records, and nothing of ours besides
        argv = [str(python), str(BENCHMARKS / "peers" / peer.script), json.dumps(asked)]
        with cores.children_on(cores.measured()):
            process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
            )
        sampler = Sampler(of_process(process.pid))
        with cores.children_on(cores.others()):
            sampler.start()
        try:
            said, errors = process.communicate(timeout=RUN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, errors = process.communicate()
            errors += f"\nnot done after {RUN_S} s"
        finally:
            sampler.stop()
        if process.returncode != 0:
            return {"not_measured": f"it failed: {errors.strip()[-400:]}"}
        found = json.loads(said.strip().splitlines()[-1])
    return {
        "package": peer.package,
        "version": _version(python, peer.package),
        "per_s": round(found["records"] / found["seconds"], 1),
        "records": found["records"],
        "seconds": round(found["seconds"], 2),
        "pss_mb": round(sampler.peaks["sum"] / 1e6, 1),
        "concurrency": concurrency,
        "one_core": bool(cores.measured()),
    }


def environment(name: str) -> Path:
    """The Python of an environment in `.bench/`, made and filled when it is not there yet."""
    folder = bench() / f"venv-{name}"
    python = folder / "bin" / "python"
    done = folder / ".installed"
    wanted = ENVIRONMENTS[name]
    if done.exists() and done.read_text().split() == list(wanted):
        return python
    print(f"installing {' '.join(wanted)} …", file=sys.stderr, flush=True)
    uv = shutil.which("uv")
    if uv:
        making = [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)]
        filling = [uv, "pip", "install", "-q", "--python", str(python), *wanted]
    else:
        making = [sys.executable, "-m", "venv", "--clear", str(folder)]
        filling = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted]
    for argv in (making, filling):
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    done.write_text(" ".join(wanted))
    return python


def _version(python: Path, package: str) -> str:
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python), "-c", asked], check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _of(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    return said.strip().splitlines()[-1] if said.strip() else type(error).__name__

"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

LIBRARIES = ("aiohttp", "httptools", "httpx", "msgspec", "pyreqwest", "uvloop")


def facts() -> dict[str, object]:
    """CPU, cores, memory, kernel, Python, libraries, tools and the time (UTC)."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "batch_infer": version("batch_infer"),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "tools": {name: found for name in ("nginx", "wrk") if (found := _tool(name))},
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _tool(name: str) -> str | None:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        return None
    done = subprocess.run([path, "-v"], check=False, capture_output=True, text=True)
    found = re.search(r"(\d+\.\d+[.\d]*)", done.stderr + done.stdout)
    return found[1] if found else "installed"

"""nginx and wrk: installed where that may be done, and otherwise asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk"}


def missing() -> list[str]:
    """Which of the tools are not there."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return [name for name in PACKAGES if shutil.which(name, path=path) is None]


def install() -> None:
    """Installs what is missing, as root with apt-get; else says what to do and what it means."""
    wanted = [PACKAGES[name] for name in missing()]
    if wanted and shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        print(f"installing {' '.join(wanted)} …", file=sys.stderr, flush=True)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for argv in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted],
        ):
            subprocess.run(argv, check=False, capture_output=True, env=env)
        if "nginx-light" in wanted and shutil.which(
            "systemctl"
        ):  # only the program is wanted, not the service
            subprocess.run(["systemctl", "disable", "--now", "nginx"], check=False, capture_output=True)
    for name in missing():
        meaning = {
            "nginx": "a slow server of our own stands in for it, and limits all speeds",
            "wrk": "its ceiling is not measured",
        }
        print(
            f"{name} is not installed ({PACKAGES[name]} in Debian): {meaning[name]}",
            file=sys.stderr,
            flush=True,
        )

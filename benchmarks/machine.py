"""What a run was made on and with: the machine, the versions, the command. Nothing that names its user or its paths."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.adapters import Adapter
from benchmarks.environments import ROOT

__all__ = ["describe_machine", "describe_peers", "describe_source"]


def describe_machine() -> dict[str, str | int]:
    """Return processor, cores, memory and system."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(pages / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def describe_source() -> str:
    """Return the commit that was measured, with a + if there were changes to it; "" where there is no git."""
    try:
        run = ["git", "describe", "--always", "--dirty=+"]
        return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe_peers(adapters: Mapping[str, Adapter], missing: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """Return title, settings and versions of each peer, or why it is missing."""
    return {
        name: {"title": adapter.title, "language": adapter.language, "settings": adapter.settings}
        | ({"missing": missing[name]} if name in missing else {"versions": _versions(adapter)})
        for name, adapter in adapters.items()
    }


def _versions(adapter: Adapter) -> dict[str, str]:
    return adapter.environment.versions(adapter.versions_of)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

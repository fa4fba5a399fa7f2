"""What the kernel knows of a process and of this machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_KIB = 1024
_USER_TIME, _SYSTEM_TIME = 11, 12
"""Places of utime and stime in /proc/PID/stat behind the command's name (proc_pid_stat(5))."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running process, by its id."""

    pid: int

    def cpu_seconds(self) -> float:
        """Return the CPU time that it and its ended children have used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Return the memory that it holds now."""
        return self._status("VmRSS")

    def peak_resident_bytes(self) -> int:
        """Return the most memory that it has held."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(f"{name}:"))
        return int(line.split()[1]) * _KIB


def machine() -> str:
    """Return this machine in a line: processor, cores, memory, kernel."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].partition(":")[2].strip() if names else platform.machine()
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    gib = int(total.split()[1]) * _KIB / 1024**3
    return f"{processor}, {os.cpu_count()} cores, {gib:.0f} GiB, Linux {platform.release()}"


def load() -> float:
    """Return how many processes wanted to run on average over the last minute."""
    return os.getloadavg()[0]

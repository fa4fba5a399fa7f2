"""The GPUs of this machine as NVML reports them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROC: Final = Path("/proc")
POD_CGROUP: Final = "kubepods"
"""Every container of a pod is in a control group below this one."""
_MIG_NAME: Final = " MIG "


class NoGpuDriver(Exception):
    """NVML cannot be used here: no NVIDIA driver, or one that does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigSlice:
    """One MIG device."""

    profile: str
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One physical GPU."""

    name: str
    memory_bytes: int | None
    """Total as NVML reports it; None for devices that share the machine's memory."""
    compute_capability: tuple[int, int] | None
    mig_enabled: bool
    slices: tuple[MigSlice, ...]
    active_nvlinks: int
    foreign_bytes: int | None
    """Memory held by processes that are in no pod; None when that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """All GPUs of a machine and its driver."""

    gpus: tuple[Gpu, ...]
    driver_version: str | None
    cuda_version: tuple[int, int] | None
    """The newest CUDA that the driver supports."""


def read_machine(proc: Path = PROC) -> Machine:
    """Read every GPU through NVML. Raises `NoGpuDriver`."""
    with _nvml() as nvml:
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            raise NoGpuDriver(f"NVML does not list the GPUs: {error}") from error
        cuda = _ask(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
        return Machine(
            gpus=tuple(_read_gpu(nvml, handle, proc) for handle in handles),
            driver_version=_ask(nvml, nvml.nvmlSystemGetDriverVersion),
            cuda_version=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
        )


@contextmanager
def _nvml() -> Iterator[Any]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoGpuDriver(
            f"NVML cannot be used: {error}; run this where the NVIDIA driver is, in a container with its runtime and "
            "NVIDIA_DRIVER_CAPABILITIES=utility"
        ) from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _ask(nvml: Any, question: Callable[..., Any], *args: Any) -> Any:
    """Return NVML's answer, None where this GPU or driver does not have one."""
    try:
        return question(*args)
    except nvml.NVMLError:
        return None


def _read_gpu(nvml: Any, handle: Any, proc: Path) -> Gpu:
    memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    mig_mode = _ask(nvml, nvml.nvmlDeviceGetMigMode, handle)
    mig_enabled = bool(mig_mode and mig_mode[0] == nvml.NVML_DEVICE_MIG_ENABLE)
    return Gpu(
        name=_ask(nvml, nvml.nvmlDeviceGetName, handle) or "",
        memory_bytes=(int(memory.total) or None) if memory is not None else None,
        compute_capability=_ask(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle),
        mig_enabled=mig_enabled,
        slices=tuple(_read_slices(nvml, handle)) if mig_enabled else (),
        active_nvlinks=_active_nvlinks(nvml, handle),
        foreign_bytes=_foreign_bytes(nvml, handle, proc),
    )


def _read_slices(nvml: Any, handle: Any) -> Iterator[MigSlice]:
    for index in range(_ask(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        device = _ask(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if device is None:
            continue
        name = _ask(nvml, nvml.nvmlDeviceGetName, device) or ""
        attributes = _ask(nvml, nvml.nvmlDeviceGetAttributes_v2, device)
        _, mig, profile = name.partition(_MIG_NAME)
        if mig and attributes is not None:
            yield MigSlice(profile=profile.strip(), memory_mib=int(attributes.memorySizeMB))


def _active_nvlinks(nvml: Any, handle: Any) -> int:
    active = 0
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        state = _ask(nvml, nvml.nvmlDeviceGetNvLinkState, handle, link)
        if state is None:
            break
        active += state == nvml.NVML_FEATURE_ENABLED
    return active


def _foreign_bytes(nvml: Any, handle: Any, proc: Path) -> int | None:
    """Return what processes outside pods hold; it needs the host's process ids, so it may not be known."""
    held: dict[int, int] = {}
    for question in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        processes = _ask(nvml, question, handle)
        if processes is None:
            return None
        for process in processes:
            if process.usedGpuMemory is None:
                return None
            held[process.pid] = max(held.get(process.pid, 0), process.usedGpuMemory)
    foreign = 0
    for pid, held_bytes in held.items():
        try:
            groups = (proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        if POD_CGROUP not in groups:
            foreign += held_bytes
    return foreign

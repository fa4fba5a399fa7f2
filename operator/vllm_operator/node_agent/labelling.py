"""Which labels a node should carry, given what NVML says and what the node carries already.

The labels are those of GPU Feature Discovery, spelt as it spells them (NVIDIA/k8s-device-plugin
`internal/lm/{resource,nvml,mig-strategy}.go`), so that everything that reads those works. A label that this agent did
not write is never changed: where GPU Feature Discovery runs, only what it lacks is added.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster import labels as label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.node_agent.nvml import Gpu, Machine

MIB: Final = 2**20
MEMORY_STEP_MIB: Final = 256
"""Memory in use is rounded up to this, so that the label does not change with every allocation."""
MARK: Final = "vllm-operator.io/gpu-labels"
MARK_VALUE: Final = "label-node"
"""Says that the GPU Feature Discovery labels beside it are this agent's."""
OWN: Final = (label.INTERCONNECT, label.MEMORY_IN_USE, MARK)
_FEATURE_LABEL: Final = re.compile(
    r"nvidia\.com/(?:gpu\.(?:product|memory|count|family|compute\.(?:major|minor))"
    r"|cuda\.(?:driver|runtime)-version\.[a-z]+|mig\.capable|mig-[0-9]+g\..*\.(?:product|count|memory))"
)
_FAMILIES: Final = {
    (8, 9): "ada-lovelace",
    3: "kepler",
    5: "maxwell",
    6: "pascal",
    (7, 5): "turing",
    7: "volta",
    8: "ampere",
    9: "hopper",
    10: "blackwell",
    12: "blackwell",
    13: "rubin",
}
_NOT_IN_LABELS: Final = re.compile(r"[^A-Za-z0-9-_. ]")
_BLANKS: Final = re.compile(r"\s+")


def label_changes(machine: Machine, present: Mapping[str, str]) -> dict[str, str | None]:
    """Return the labels to set, and with None those to remove, on a node that carries `present`."""
    wanted_own = own_labels(machine)
    wanted_shared = feature_labels(machine)
    foreign = label.TIMESTAMP in present or (label.PRODUCT in present and present.get(MARK) != MARK_VALUE)
    if foreign:
        wanted_shared = {}
    elif wanted_shared:
        wanted_own[MARK] = MARK_VALUE
    wanted = {**wanted_shared, **wanted_own}
    changes: dict[str, str | None] = {key: value for key, value in wanted.items() if present.get(key) != value}
    changes.update({key: None for key in OWN if key in present and key not in wanted})
    if present.get(MARK) == MARK_VALUE and not foreign:
        changes.update({key: None for key in present if _is_feature_label(key) and key not in wanted})
    return changes


def feature_labels(machine: Machine) -> dict[str, str]:
    """Return the labels that GPU Feature Discovery would write, as far as NVML alone can say them.

    How the device plugin shares or slices devices is in its configuration, not in NVML. So nothing is said of
    replicas, and where every card is cut into MIG slices only the slices are described: the whole card's memory beside
    a resource that may be a slice would promise too much. Of a machine with two models nothing is said either.
    """
    gpus = machine.gpus
    if not gpus or len({(gpu.name, gpu.memory_bytes) for gpu in gpus}) > 1:
        return {}
    labels: dict[str, str] = _driver_labels(machine)
    labels.update(_compute_labels(gpus[0]))
    labels["nvidia.com/mig.capable"] = "true" if any(gpu.mig_enabled for gpu in gpus) else "false"
    if not all(gpu.mig_enabled for gpu in gpus):
        labels[label.PRODUCT] = sanitise(gpus[0].name)
        labels[label.COUNT] = str(len(gpus))
        if gpus[0].memory_bytes:
            labels[label.MEMORY] = str(gpus[0].memory_bytes // MIB)
    slices = [(piece.profile.replace("+", "."), piece.memory_mib) for gpu in gpus for piece in gpu.slices]
    numbers = Counter(profile for profile, _ in slices)
    for profile, memory_mib in slices:
        labels[f"nvidia.com/mig-{profile}.product"] = f"{sanitise(gpus[0].name)}-MIG-{profile}"
        labels[f"nvidia.com/mig-{profile}.count"] = str(numbers[profile])
        labels[f"nvidia.com/mig-{profile}.memory"] = str(memory_mib)
    return labels


def own_labels(machine: Machine) -> dict[str, str]:
    """Return what GPU Feature Discovery does not say: the links between the GPUs, and memory that others hold."""
    if not machine.gpus:
        return {}
    linked = all(gpu.active_nvlinks for gpu in machine.gpus)
    labels = {label.INTERCONNECT: "NVLink" if linked else "PCIe"}
    foreign = [gpu.foreign_bytes for gpu in machine.gpus]
    known = [held for held in foreign if held is not None]
    if len(known) == len(foreign):
        steps = -(-max(known) // (MEMORY_STEP_MIB * MIB))
        labels[label.MEMORY_IN_USE] = str(steps * MEMORY_STEP_MIB)
    return labels


def sanitise(name: str) -> str:
    """Return a product name as a label value, as GPU Feature Discovery writes it."""
    return _BLANKS.sub("-", _NOT_IN_LABELS.sub("", name).strip())[:63]


def _driver_labels(machine: Machine) -> dict[str, str]:
    labels: dict[str, str] = {}
    if machine.driver_version is not None:
        parts = machine.driver_version.split(".")
        labels["nvidia.com/cuda.driver-version.full"] = machine.driver_version
        labels["nvidia.com/cuda.driver-version.major"] = parts[0]
        labels["nvidia.com/cuda.driver-version.minor"] = parts[1] if len(parts) > 1 else ""
        labels["nvidia.com/cuda.driver-version.revision"] = parts[2] if len(parts) > 2 else ""
    if machine.cuda_version is not None:
        major, minor = machine.cuda_version
        labels["nvidia.com/cuda.runtime-version.full"] = f"{major}.{minor}"
        labels["nvidia.com/cuda.runtime-version.major"] = str(major)
        labels["nvidia.com/cuda.runtime-version.minor"] = str(minor)
    return labels


def _compute_labels(gpu: Gpu) -> dict[str, str]:
    if gpu.compute_capability is None:
        return {}
    major, minor = gpu.compute_capability
    family = _FAMILIES.get((major, minor)) or _FAMILIES.get(major, "undefined")
    return {label.COMPUTE_MAJOR: str(major), label.COMPUTE_MINOR: str(minor), "nvidia.com/gpu.family": family}


def _is_feature_label(name: str) -> bool:
    """Whether this agent writes labels of that name; the GPU operator's own (`gpu.deploy.…`) are not among them."""
    return _FEATURE_LABEL.fullmatch(name) is not None

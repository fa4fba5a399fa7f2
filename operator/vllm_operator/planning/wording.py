"""Figures as people read them: needs rounded up, offers rounded down, so that a printed need never looks smaller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vllm_operator.planning.memory import GIB

if TYPE_CHECKING:
    from vllm_operator.cluster.records import GpuClass
    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.host import HostNeed
    from vllm_operator.planning.need import Need
    from vllm_operator.planning.plan import Alternative, Placement


def need_gib(size_bytes: int) -> str:
    """A need in GiB, rounded up to a tenth."""
    return f"{math.ceil(size_bytes * 10 / GIB) / 10:.1f}"


def have_gib(size_bytes: int) -> str:
    """An offer in GiB, rounded down to a tenth."""
    return f"{math.floor(size_bytes * 10 / GIB) / 10:.1f}"


def class_name(gpu_class: GpuClass) -> str:
    """A GPU class as its nodes call it."""
    name = gpu_class.product or f"{gpu_class.vendor} GPU ({gpu_class.resource_name})"
    return f"{name} {gpu_class.mig_profile}" if gpu_class.mig_profile and gpu_class.mig_profile not in name else name


def gpus(number: int, gpu_class: GpuClass) -> str:
    """Some GPUs of a class: "2 x NVIDIA-L4"."""
    return f"{number} × {class_name(gpu_class)}"


def gpus_on_nodes(number: int, nodes: int, gpu_class: GpuClass) -> str:
    """The GPUs of a replica: "2 × NVIDIA-L4", or "3 nodes with 8 × NVIDIA-A100-SXM4-80GB each"."""
    return gpus(number, gpu_class) if nodes == 1 else f"{nodes} nodes with {gpus(number // nodes, gpu_class)} each"


def gpus_of(found: Placement | Alternative) -> str:
    """The GPUs of a replica, as it was placed or could be."""
    return gpus_on_nodes(found.gpus_per_replica, found.nodes_per_replica, found.gpu_class)


def gpus_of_candidate(candidate: Candidate) -> str:
    """The GPUs that a candidate takes for a replica."""
    return gpus_on_nodes(candidate.parallelism.gpus, candidate.parallelism.nodes, candidate.capacity.gpu_class)


def the_sum(need: Need) -> str:
    """What is needed on one GPU, with its parts."""
    return (
        f"{need_gib(need.required_bytes)} GiB per GPU (weights {need_gib(need.weights_bytes)} "
        f"+ KV cache {need_gib(need.kv_cache_bytes)} + overhead {need_gib(need.overhead_bytes)})"
    )


def share_gib(need: Need) -> str:
    """What is needed of what is offered; where it fits, rounding must not make it look otherwise."""
    offered = have_gib(need.budget_bytes)
    wanted = need_gib(need.required_bytes)
    return f"{offered if need.headroom_bytes >= 0 and float(wanted) > float(offered) else wanted} of {offered} GiB"


def the_offer(need: Need, utilization: float) -> str:
    """What one GPU offers, with where it comes from."""
    return f"{have_gib(need.budget_bytes)} GiB ({have_gib(need.vram_bytes)} GiB × {utilization:g})"


def need_of_host(need: HostNeed, gpus: int) -> str:
    """What a replica reserves of its node besides GPUs."""
    request = need.request(gpus)
    return f"{math.ceil(request.cpu_millis / 100) / 10:g} CPUs, {need_gib(request.memory_bytes)} GiB of memory"


def plural(number: int, noun: str) -> str:
    """A number of things: "1 node", "3 nodes"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

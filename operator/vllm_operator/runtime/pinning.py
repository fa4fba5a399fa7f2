"""A running model keeps the plan that it was started with.

The plan of a generation is frozen in the status. Another answer of the planner, because the cluster or the operator
changed, judges the deployment anew but does not roll its pods, as long as a node could still run them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.cluster.records import GpuClass
from vllm_operator.planning.plan import Placement, Plan

if TYPE_CHECKING:
    from vllm_operator.api.status import PlanStatus, VLLMDeploymentStatus
    from vllm_operator.cluster.inventory import Inventory


def pinned_plan(status: VLLMDeploymentStatus, *, generation: int) -> PlanStatus | None:
    """Return the plan that was frozen for this generation, None when there is none yet."""
    if status.observed_generation != generation or status.plan is None or not status.plan.args:
        return None
    return status.plan


def can_still_run(pinned: PlanStatus, inventory: Inventory) -> bool:
    """Whether some node in service offers enough GPUs of the pinned kind, free or not."""
    return any(
        offer.usable
        and not offer.declared
        and offer.gpu_class.resource_name == pinned.resource_name
        and offer.allocatable >= pinned.gpus_per_replica
        and _matches(pinned.node_terms, offer.node.labels)
        for offer in inventory.offers
    )


def _matches(terms: list[dict[str, list[str]]], labels: object) -> bool:
    get = getattr(labels, "get", lambda _: None)
    return not terms or any(all(get(key) in values for key, values in term.items()) for term in terms)


def with_pinned(plan: Plan, pinned: PlanStatus) -> Plan:
    """Return a fresh judgement that carries the frozen flags and placement."""
    gpu_class = GpuClass(
        vendor=plan.placement.gpu_class.vendor if plan.placement else "nvidia",
        resource_name=pinned.resource_name,
        product=pinned.gpu_product,
        memory_bytes=pinned.gpu_memory_bytes,
    )
    placement = Placement(
        gpu_class=gpu_class,
        gpus_per_replica=pinned.gpus_per_replica,
        nodes=tuple(pinned.nodes),
        node_selector_terms=tuple({key: tuple(values) for key, values in term.items()} for term in pinned.node_terms),
    )
    return replace(
        plan,
        placement=placement,
        hash=pinned.hash,
        image=pinned.image,
        engine_version=pinned.engine_version,
        revision=pinned.revision,
        tensor_parallel_size=pinned.tensor_parallel_size,
        pipeline_parallel_size=pinned.pipeline_parallel_size,
        data_parallel_size=pinned.data_parallel_size,
        max_model_len=pinned.max_model_len,
        max_num_seqs=pinned.max_num_seqs,
        args=tuple(pinned.args),
        checkpoint_bytes=pinned.checkpoint_bytes,
    )

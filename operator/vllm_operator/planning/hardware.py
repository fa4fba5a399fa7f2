"""Which hardware would hold a deployment that does not fit: the answer when no change of the spec helps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.cluster.devices import DEVICES
from vllm_operator.cluster.records import Basis, GpuClass
from vllm_operator.planning.capacity import ClassCapacity, Slot
from vllm_operator.planning.groups import with_enough_nodes
from vllm_operator.planning.plan import Verdict
from vllm_operator.planning.search import search, search_groups
from vllm_operator.planning.sizing import question_of

if TYPE_CHECKING:
    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.decision import Decision

_BUYABLE = ("L4", "L40S", "A100 SXM 80GB", "H100 SXM 80GB", "H200", "B200", "B300")
"""Products that clouds and vendors sell by the node, smallest first."""
_ON_A_NODE = 8


def smallest_node_that_fits(decision: Decision) -> tuple[int, str] | None:
    """Number and product of the GPUs of a node that would hold one replica as asked; None when none would."""
    if decision.facts is None:
        return None
    request = replace(decision.request, replicas=1)
    question = question_of(request, decision.facts, decision.family)
    if request.context_length is not None and request.context_length > decision.facts.max_model_len:
        return None
    for product in _BUYABLE:
        found = search(question, [_whole_node(product)])
        if found and found[0].verdict is Verdict.FITS:
            return found[0].parallelism.gpus, product
    return None


def smallest_group_that_fits(decision: Decision) -> Candidate | None:
    """The fewest whole nodes, of a class that is there, that would hold one replica as asked; None when none would.

    The candidate's capacity is the class as it is, whether or not it has as many nodes.
    """
    request, facts = replace(decision.request, replicas=1, one_node_only=None), decision.facts
    if facts is None or not decision.capacity.classes:
        return None
    if request.context_length is not None and request.context_length > facts.max_model_len:
        return None
    classes = {capacity.gpu_class: capacity for capacity in decision.capacity.classes}
    question = question_of(request, facts, decision.family)
    enough = [with_enough_nodes(capacity) for capacity in classes.values()]
    found = search_groups(question, enough, whole_nodes=True)
    if not found or found[0].verdict is not Verdict.FITS:
        return None
    return replace(found[0], capacity=classes[found[0].capacity.gpu_class])


def _whole_node(product: str) -> ClassCapacity:
    facts = next(facts for facts in DEVICES if facts.product == product)
    gpu_class = GpuClass(
        vendor=facts.vendor,
        resource_name="nvidia.com/gpu",
        product=facts.product,
        memory_bytes=facts.memory_bytes,
        compute_capability=facts.compute_capability,
        basis=Basis.PRODUCT_TABLE,
        interconnect=facts.interconnect,
    )
    whole = Slot(usable=True, declared=False, allocatable=_ON_A_NODE, free=_ON_A_NODE)
    return ClassCapacity(gpu_class=gpu_class, offers=(), slots={whole: 1})

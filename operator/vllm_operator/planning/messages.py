"""The plan in words: field, need with its sum, what the best class offers, and what would make it fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.cluster.records import Sharing
from vllm_operator.planning.flags import KNOWN_VERSIONS, flags_of
from vllm_operator.planning.forecast import forecast
from vllm_operator.planning.hardware import smallest_group_that_fits, smallest_node_that_fits
from vllm_operator.planning.plan import OomRisk, Verdict
from vllm_operator.planning.refusals import refusals_of
from vllm_operator.planning.request import AUTO, OneNodeOnly
from vllm_operator.planning.wording import (
    class_name,
    gpus_of_candidate,
    have_gib,
    need_gib,
    need_of_host,
    plural,
    the_offer,
    the_sum,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.decision import Decision
    from vllm_operator.planning.plan import Suggestion

SHOWN_NODES = 3
LEADER_WORKER_SET_URL = "https://lws.sigs.k8s.io"


def message_of(decision: Decision, suggestions: tuple[Suggestion, ...]) -> str:
    """One sentence with the numbers, and the verified ways out."""
    text = _statement(decision)
    is_suggested = bool(suggestions) and decision.request.one_node_only is OneNodeOnly.CACHE_ON_ONE_NODE
    says_more = not is_suggested and (not suggestions or _exceeds_a_node(decision))
    across = _across_nodes(decision) if says_more else ""
    if not suggestions:
        return " ".join(part for part in (text, _what_would_hold_it(decision), across) if part)
    fixes = "; ".join(f"({number}) {suggestion.summary}" for number, suggestion in enumerate(suggestions, 1))
    head = "To make it fit" if decision.verdict is Verdict.DOES_NOT_FIT else "To start now"
    return " ".join(part for part in (text, across, f"{head}: {fixes}.") if part)


def _statement(decision: Decision) -> str:
    best = decision.best
    if decision.obstacle is not None:
        field, text = decision.obstacle
        return f"{field}: {text}."
    if decision.verdict is Verdict.UNKNOWN or best is None or best.need is None:
        return _unknown(decision)
    match decision.verdict:
        case Verdict.FITS:
            return f"Fits on {_where(best)}: needs {_sum_and_offer(decision, best)}."
        case Verdict.FITS_IF_FREED:
            return (
                f"Fits on {_where(best)} once {_scarce(decision, best)} are free: there is room for {best.room.free} "
                f"of {plural(decision.request.replicas, 'replica')} now{_out_of_service(best)}; "
                f"needs {_sum_and_offer(decision, best)}."
            )
        case Verdict.FITS_WHEN_SCALED:
            return f"Fits on {_where(best)} once such a node is added: needs {_sum_and_offer(decision, best)}."
        case Verdict.DOES_NOT_FIT:
            return _refusal(decision, best)


def _what_would_hold_it(decision: Decision) -> str:
    """The next step where no change of the spec helps: hardware on which the same search says `Fits`."""
    if decision.verdict is not Verdict.DOES_NOT_FIT or next(refusals_of(decision.request), None) is not None:
        return ""
    hardware = smallest_node_that_fits(decision)
    if hardware is None:
        return "No change of the spec and no single node of common GPUs would make it fit."
    number, product = hardware
    return f"No change of the spec makes it fit on these nodes; a node with {number} × {product} would hold it."


def _exceeds_a_node(decision: Decision) -> bool:
    """Whether not even the weights find room on one node: what else would make it fit then costs quality."""
    return decision.best is not None and decision.best.need is not None and _field(decision.best) == "spec.model"


def _across_nodes(decision: Decision) -> str:
    """How many nodes would hold together what none of them holds alone, and what is missing for that."""
    if decision.verdict is not Verdict.DOES_NOT_FIT:
        return ""
    group = smallest_group_that_fits(decision)
    if group is None or group.need is None:
        return ""
    spread = group.parallelism
    there = group.capacity.room(spread.gpus_per_node).allocatable
    how = (
        f"{gpus_of_candidate(group)} would hold it together, as {spread.pipeline} pipeline "
        f"stages of {plural(spread.tensor, 'GPU')} (the fullest needs {the_sum(group.need)} of "
        f"{the_offer(group.need, _utilization(decision, group))})"
    )
    missing = [] if there >= spread.nodes else [f"add nodes, there is room on {there}"]
    if decision.request.one_node_only is not None:
        missing.append(_LIFTED_BY[decision.request.one_node_only])
    return f"{how}: {' and '.join(missing)}." if missing else ""


_LIFTED_BY = {
    OneNodeOnly.NOT_INSTALLED: f"install LeaderWorkerSet ({LEADER_WORKER_SET_URL}), which runs one replica on several "
    "nodes",
    OneNodeOnly.OLD_ENGINE: f"set spec.engine.version to {KNOWN_VERSIONS[0]} or newer, which spans nodes without Ray",
    OneNodeOnly.OTHER_EXECUTOR: "take --distributed-executor-backend out of spec.engine.extraArgs",
    OneNodeOnly.CACHE_ON_ONE_NODE: "set spec.cache.accessMode to ReadWriteMany, so that all can mount the claim",
}


def _scarce(decision: Decision, best: Candidate) -> str:
    """What has to be freed before all replicas have a place."""
    if best.room.free_of_gpus < decision.request.replicas:
        return "GPUs"
    return f"{need_of_host(best.capacity.host, best.parallelism.gpus_per_node)} and a pod slot beside free GPUs"


def _out_of_service(best: Candidate) -> str:
    number = best.capacity.nodes_out_of_service
    return f" ({plural(number, 'node')} cordoned or not ready)" if number else ""


def _where(best: Candidate) -> str:
    return gpus_of_candidate(best)


def _sum_and_offer(decision: Decision, best: Candidate) -> str:
    assert best.need is not None
    offer = the_offer(best.need, _utilization(decision, best))
    return f"{the_sum(best.need)} of {offer}, headroom {have_gib(best.need.headroom_bytes)} GiB"


def _utilization(decision: Decision, best: Candidate) -> float:
    return best.size.utilization if best.size is not None else decision.request.policy.gpu_memory_utilization


def _refusal(decision: Decision, best: Candidate) -> str:
    assert best.need is not None
    need, policy = best.need, decision.request.policy
    headroom = f", plus {policy.headroom_gb:g} GiB of headroom" if policy.headroom_gb else ""
    return (
        f"{_field(best)}: needs {the_sum(need)}{headroom} for {plural(best.concurrency, 'sequence')} of "
        f"{plural(best.context_length, 'token')} on {_where(best)}; the best class, "
        f"{class_name(best.capacity.gpu_class)}, offers {the_offer(need, _utilization(decision, best))}, "
        f"{plural(best.capacity.most_gpus_on_a_node, 'GPU')} on a node."
    )


def _field(best: Candidate) -> str:
    """The field that asks for too much: the model when its weights alone do not fit, else the workload."""
    assert best.need is not None
    need = best.need
    return "spec.model" if need.weights_bytes + need.overhead_bytes >= need.budget_bytes else "spec.workload"


def _unknown(decision: Decision) -> str:
    if decision.facts is None:
        return (
            "The model's facts are not known, so its memory cannot be judged. "
            "Give the operator access to the model, or its config.json through spec.model.configRef."
        )
    if decision.best is not None and not decision.best.placeable:
        return _unknown_product(decision, decision.best)
    problems = sorted({problem for candidate in decision.candidates for problem in candidate.problems})
    if problems:
        return f"The memory cannot be judged: {'; '.join(problems)}."
    names = sorted(
        {class_name(candidate.capacity.gpu_class) for candidate in decision.candidates if candidate.device is None}
    )
    return (
        f"The memory of {', '.join(names)} is not known, so it cannot be judged. "
        "Label the nodes with nvidia.com/gpu.memory (MiB), for example with GPU Feature Discovery."
    )


def _unknown_product(decision: Decision, best: Candidate) -> str:
    nodes = best.capacity.node_names(1)
    shown = ", ".join(nodes[:SHOWN_NODES]) + (f" and {len(nodes) - SHOWN_NODES} more" if nodes[SHOWN_NODES:] else "")
    return (
        f"spec.gpu.products allows {', '.join(decision.request.gpus.products)} only, and the product of the GPUs of "
        f"{shown or 'the declared nodes'} is not known, so nothing is placed on them. "
        "Label the nodes with nvidia.com/gpu.product, for example with GPU Feature Discovery."
    )


def warnings_of(decision: Decision) -> tuple[str, ...]:
    """What the user should know although it is no reason to refuse."""
    return tuple(dict.fromkeys(_warnings(decision)))


def _warnings(decision: Decision) -> Iterator[str]:
    request, facts, best = decision.request, decision.facts, decision.best
    if not flags_of(request.engine_version).exact:
        yield (
            f"vLLM {request.engine_version} has no flag table and no measured memory profile here: "
            "the nearest known release stands in"
        )
    if facts is not None and facts.needs_remote_code and not request.trust_remote_code:
        yield (
            "the model brings code of its own: if vLLM refuses to load it, review that code and set "
            "spec.model.trustRemoteCode: true"
        )
    yield from _about_parsers(decision)
    at_once = (request.max_num_seqs or request.concurrency) * (best.parallelism.data if best is not None else 1)
    if at_once < request.concurrency:
        yield (
            f"spec.engine.maxNumSeqs {request.max_num_seqs} is below spec.workload.concurrency {request.concurrency}: "
            f"only {at_once} sequences run at once"
        )
    if best is None:
        return
    yield from _about_memory(decision, best)
    if decision.verdict is Verdict.FITS_IF_FREED:
        wanted = plural(request.replicas, "replica")
        yield f"{best.room.free} of {wanted} can start now, {best.room.allocatable} at most"
    if best.context_length and request.context_length and best.context_length < request.context_length:
        yield f"autoAdjust lowered contextLength from {request.context_length:,} to {best.context_length:,}"
    if best.concurrency < request.concurrency:
        yield f"autoAdjust lowered concurrency from {request.concurrency:,} to {best.concurrency:,}"


def _about_parsers(decision: Decision) -> Iterator[str]:
    request, family = decision.request, decision.family
    if family is None or family.parsers_import is None or request.image is not None:
        return
    if AUTO in (request.tool_calling, request.reasoning):
        yield (
            f"tool calls and reasoning of {family.title} are left as text: their parsers import "
            f"{family.parsers_import}, which vLLM's image does not have; set spec.engine.image to one that has it"
        )


def _about_memory(decision: Decision, best: Candidate) -> Iterator[str]:
    if best.need is None or decision.facts is None or decision.verdict is Verdict.DOES_NOT_FIT:
        return
    if best.capacity.gpu_class.sharing is Sharing.TIME_SLICED:
        yield "the GPU is time-sliced: nothing keeps other pods from taking the memory that was planned with"
    elif best.need.risk is not OomRisk.LOW:
        headroom = have_gib(best.need.headroom_bytes)
        doubt = ""
        low_bytes = best.need.kv_cache_low_bytes
        if best.need.exceeds_lower_end and low_bytes is not None:
            doubt = (
                f", but one start in ten may leave less than {have_gib(low_bytes)} GiB for the KV cache "
                f"of {need_gib(best.need.kv_cache_bytes)} GiB"
            )
        yield f"{best.need.risk.value} risk of running out of GPU memory: headroom {headroom} GiB per GPU{doubt}"
    assert best.size is not None
    assert best.device is not None
    predicted = forecast(decision.facts, best.size.settings_at(best.context_length), best.device).memory
    if not predicted.starts:
        reason = predicted.notes[0] if predicted.notes else "the policy's margins are below its real needs"
        yield f"vLLM is predicted not to start ({predicted.failure}): {reason}"

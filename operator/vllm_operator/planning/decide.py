"""The planner's one way in: spec, facts and inventory to a plan. Pure: same inputs, same plan."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.planning.affinity import selector_terms
from vllm_operator.planning.arguments import command_line, pinned_revision
from vllm_operator.planning.decision import HOLDS, decide
from vllm_operator.planning.defaults import Capabilities, OperatorDefaults
from vllm_operator.planning.fanout import inputs_read
from vllm_operator.planning.messages import message_of, warnings_of
from vllm_operator.planning.performance import performance_of
from vllm_operator.planning.plan import Alternative, Placement, Plan, TradeOff
from vllm_operator.planning.report import feasibility_of, memory_of
from vllm_operator.planning.request import request_of
from vllm_operator.planning.source import parse_address
from vllm_operator.planning.suggestions import suggest

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMDeploymentSpec
    from vllm_operator.cluster.inventory import Inventory
    from vllm_operator.cluster.records import GpuClass
    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.decision import Decision
    from vllm_operator.planning.need import MemoryRoom
    from vllm_operator.planning.request import Request

HASH_DIGITS = 16
TRADE_OFF_CONCURRENCIES = (1, 4, 16, 64, 256)
TRADE_OFF_CONTEXTS = (2_048, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576)
_DEFAULTS = OperatorDefaults()
_PLAIN = Capabilities()


def plan(
    spec: VLLMDeploymentSpec,
    facts: ModelFacts | None,
    inventory: Inventory,
    *,
    defaults: OperatorDefaults = _DEFAULTS,
    capabilities: Capabilities = _PLAIN,
) -> Plan:
    """Judge a deployment and plan it. `facts` is None while the model is unknown; `inventory` credits its own pods.

    The plan is renderable whenever there is a class to run on, whatever the verdict: the admission mode decides
    whether it is rendered.
    """
    request = request_of(spec, defaults, capabilities)
    decision = decide(request, facts, inventory)
    suggestions = suggest(decision, inventory)
    best = decision.best
    revision = pinned_revision(request, facts)
    image = request.image or defaults.image_for(
        request.engine_version, best.capacity.gpu_class.vendor if best is not None else "nvidia"
    )
    arguments, reasons = command_line(
        request, decision.facts, decision.family, best, revision=revision, image_is_ours=request.image is None
    )
    unhashed = Plan(
        verdict=decision.verdict,
        oom_risk=best.risk if best is not None else None,
        message=message_of(decision, suggestions),
        feasibility=feasibility_of(decision),
        memory=memory_of(decision),
        placement=_placement(decision),
        tensor_parallel_size=best.parallelism.tensor if best else request.tensor_parallel_size or 1,
        pipeline_parallel_size=best.parallelism.pipeline if best else request.pipeline_parallel_size or 1,
        data_parallel_size=best.parallelism.data if best else request.data_parallel_size or 1,
        expert_parallel=best.parallelism.expert if best else bool(request.expert_parallel),
        max_model_len=(best.context_length or None) if best else request.context_length,
        max_num_seqs=best.size.batching.max_num_seqs if best and best.size else request.max_num_seqs,
        max_num_batched_tokens=(
            best.size.batching.max_num_batched_tokens if best and best.size else request.max_num_batched_tokens
        ),
        gpu_memory_utilization=(best.size.utilization if best and best.size else request.policy.gpu_memory_utilization),
        kv_cache_dtype=best.size.forecast.resolved.kv_cache_dtype if best and best.size else request.kv_cache_dtype,
        concurrency=best.concurrency if best else request.concurrency,
        replicas=request.replicas,
        has_room_for_surge=best is not None and best.room.free >= request.replicas_with_surge,
        image=image,
        engine_version=request.engine_version,
        model=parse_address(request.model_uri).argument,
        revision=revision,
        args=arguments if best is not None and best.placeable else (),
        checkpoint_bytes=_checkpoint_bytes(facts),
        suggestions=suggestions,
        warnings=warnings_of(decision),
        reasons=reasons if best is not None else (),
        trade_offs=_trade_offs(decision),
        performance=performance_of(request, decision.facts, best) if decision.verdict in HOLDS else None,
        inputs_read=inputs_read(request, decision.verdict, best.parallelism if best else None),
    )
    return replace(unhashed, hash=_hash(unhashed, request))


def _placement(decision: Decision) -> Placement | None:
    best = decision.best
    if best is None or not best.placeable:
        return None
    return Placement(
        gpu_class=best.capacity.gpu_class,
        gpus_per_replica=best.parallelism.gpus,
        nodes=best.capacity.node_names(best.parallelism.gpus_per_node),
        node_selector_terms=selector_terms(best.capacity, decision.capacity),
        nodes_per_replica=best.parallelism.nodes,
    )


def _checkpoint_bytes(facts: ModelFacts | None) -> int | None:
    return facts.checkpoint.total_bytes if facts is not None and facts.checkpoint is not None else None


def _trade_offs(decision: Decision) -> tuple[TradeOff, ...]:
    best, facts = decision.best, decision.facts
    if best is None or best.size is None or facts is None or decision.verdict not in HOLDS:
        return ()
    return _by_context(best.size.memory_room, {best.context_length, facts.max_model_len}, facts)


def _by_context(room: MemoryRoom, also: set[int], facts: ModelFacts) -> tuple[TradeOff, ...]:
    contexts = {context for context in TRADE_OFF_CONTEXTS if context <= facts.max_model_len} | also
    return tuple(
        TradeOff(context_length=context, max_concurrency=room.max_concurrency(context)) for context in sorted(contexts)
    )


def _by_concurrency(room: MemoryRoom, facts: ModelFacts) -> tuple[TradeOff, ...]:
    return tuple(
        TradeOff(context_length=room.max_context(concurrency, facts.max_model_len), max_concurrency=concurrency)
        for concurrency in TRADE_OFF_CONCURRENCIES
    )


def compare(
    spec: VLLMDeploymentSpec,
    facts: ModelFacts | None,
    inventory: Inventory,
    *,
    defaults: OperatorDefaults = _DEFAULTS,
    capabilities: Capabilities = _PLAIN,
) -> tuple[Alternative, ...]:
    """The best way found on each GPU class that was looked at, best first: what `plan` chose from."""
    decision = decide(request_of(spec, defaults, capabilities), facts, inventory)
    firsts: dict[GpuClass, Candidate] = {}
    for candidate in decision.candidates:
        firsts.setdefault(candidate.capacity.gpu_class, candidate)
    asked = decision.request.context_length
    return tuple(_alternative(candidate, facts, asked) for candidate in firsts.values())


def _alternative(candidate: Candidate, facts: ModelFacts | None, asked: int | None) -> Alternative:
    room = candidate.size.memory_room if candidate.size is not None else None
    return Alternative(
        gpu_class=candidate.capacity.gpu_class,
        gpus_per_replica=candidate.parallelism.gpus,
        nodes_per_replica=candidate.parallelism.nodes,
        verdict=candidate.verdict,
        oom_risk=candidate.risk,
        headroom_bytes=candidate.need.headroom_bytes if candidate.need is not None else None,
        max_context=room.max_context(candidate.concurrency, facts.max_model_len) if room and facts else None,
        max_concurrency=room.max_concurrency(candidate.context_length) if room else None,
        by_context=_by_context(room, {asked or facts.max_model_len, facts.max_model_len}, facts)
        if room and facts
        else (),
        by_concurrency=_by_concurrency(room, facts) if room and facts else (),
    )


def _hash(unhashed: Plan, request: Request) -> str:
    """A digest of what is rendered: it changes exactly when pods must be replaced. The node list is not part of it."""
    placement = unhashed.placement
    rendered = {
        "image": unhashed.image,
        "args": unhashed.args,
        "resource": placement.gpu_class.resource_name if placement else None,
        "gpus": placement.gpus_per_replica if placement else None,
        "affinity": [dict(term) for term in placement.node_selector_terms] if placement else [],
        "checkpoint": unhashed.checkpoint_bytes,
        **request.rendered_sections,
    }
    if placement is not None and placement.nodes_per_replica > 1:
        # Said only of several nodes, so that the plans of one keep the hash that their pods bear.
        rendered["nodes"] = placement.nodes_per_replica
    text = json.dumps(rendered, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


def _plain(value: object) -> object:
    """Pydantic sections as plain data."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} is not part of a plan's hash")
    return dump(mode="json", exclude_defaults=True)


__all__ = ["Capabilities", "OperatorDefaults", "Plan", "compare", "plan"]

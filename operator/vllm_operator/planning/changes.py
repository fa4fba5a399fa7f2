"""Single changes of a deployment that might make it fit, each with its patch and with what it costs the user.

What they cost ranks them: where it runs, then how many GPUs, then how much at once, then quality. None is verified.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vllm_operator.api.spec import AccessMode
from vllm_operator.planning.candidate import SMALLEST_CONTEXT
from vllm_operator.planning.capacity import Exclusion, Toleration
from vllm_operator.planning.groups import TENSOR_SIZES
from vllm_operator.planning.judging import CONTEXT_STEP
from vllm_operator.planning.refusals import refusals_of
from vllm_operator.planning.request import OneNodeOnly
from vllm_operator.planning.tuning import compute_capability
from vllm_operator.planning.wording import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.decision import Decision
    from vllm_operator.planning.outlook import Work
    from vllm_operator.planning.request import Request

TENSOR_SIZE = "tensorParallelSize"
HIGHEST_UTILIZATION = 0.95
"""Above it the CUDA context and the NCCL buffers, which live outside the budget, no longer fit on common GPUs."""
FIRST_CAPABILITY_WITH_FP8 = (8, 9)
READABLE_CONTEXT = 4096

_ACCEPTED_ARGUMENTS = 0.5
_WIDER_GPUS = 1.0
_FEWER_REPLICAS = 1.5
_MORE_GPUS = 2.0
_FURTHER_SIZE = 0.01
_HIGHER_UTILIZATION = 2.2
_MORE_NODES = 2.4
_LESS_HEADROOM = 2.6
_LESS_WORK = 3.0
_KV_QUALITY = 5.0
_WEIGHT_QUALITY = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a request and of the object that it came from."""

    summary: str
    patch: Mapping[str, object]
    """Below `spec`."""
    apply: Callable[[Request], Request]
    cost: float
    lowers_quality: bool = False
    one_of: str | None = None
    """Of the changes with the same name here only the first that suffices is shown."""
    amount: int | None = None
    """For a change that is sized to the figures at hand: how much of the asked work is left."""

    @property
    def lowered_field(self) -> str:
        """The field of the workload that it lowers; empty where it lowers none."""
        workload = self.patch.get("workload")
        return next(iter(workload)) if isinstance(workload, dict) else ""


def changes_of(decision: Decision) -> Iterator[Change]:
    """Yield the single changes that might help, but for those that are sized to what the cluster holds."""
    yield from _accepted_arguments(decision.request)
    yield from _wider_gpus(decision)
    yield from _shared_cache(decision)
    yield from _other_parallelism(decision)
    yield from _policy(decision)
    yield from _quality(decision)


def _accepted_arguments(request: Request) -> Iterator[Change]:
    """Take away what vLLM would refuse to start over."""
    for refusal in refusals_of(request):
        change = refusal.accepted
        yield Change(
            summary=change.summary, patch={"engine": change.engine}, apply=change.apply, cost=_ACCEPTED_ARGUMENTS
        )


def _wider_gpus(decision: Decision) -> Iterator[Change]:
    """Lift what the spec itself rules out."""
    request, excluded = decision.request, decision.capacity.excluded
    if Exclusion.PRODUCT in excluded:
        names = sorted({offer.gpu_class.product or "" for offer in excluded[Exclusion.PRODUCT]})
        yield _gpu_change(f"allow other GPU products ({', '.join(names)})", "products", None, products=())
    elif any(not candidate.placeable for candidate in decision.candidates):
        yield _gpu_change("allow GPUs of any product", "products", None, products=())
    if Exclusion.MEMORY in excluded:
        yield _gpu_change("allow GPUs with less memory", "minMemory", None, min_memory_bytes=None)
    if Exclusion.NODE_SELECTOR in excluded and request.gpus.node_selector:
        yield _gpu_change("allow all nodes", "nodeSelector", None, node_selector=())
    if Exclusion.SHARING in excluded:
        yield _gpu_change("accept GPUs that are shared with other pods", "sharing", "AllowShared", allow_shared=True)
    if Exclusion.TAINT in excluded:
        yield from _tolerations(decision)


def _shared_cache(decision: Decision) -> Iterator[Change]:
    """Let several nodes mount the claim that is made for the weights, where it alone keeps the replica on one."""
    if decision.request.one_node_only is OneNodeOnly.CACHE_ON_ONE_NODE:
        yield Change(
            summary="use several nodes, with a cache that all of them can mount (accessMode ReadWriteMany)",
            patch={"cache": {"accessMode": AccessMode.READ_WRITE_MANY.value}},
            apply=lambda request: replace(request, one_node_only=None),
            cost=_MORE_NODES,
        )


def _tolerations(decision: Decision) -> Iterator[Change]:
    request = decision.request
    taints = sorted(
        {
            (taint.key, taint.effect)
            for offer in decision.capacity.excluded[Exclusion.TAINT]
            for taint in offer.node.taints
            if not taint.key.startswith("node.kubernetes.io/")
            and not request.gpus.tolerates(taint, offer.gpu_class.resource_name)
        }
    )
    for key, effect in taints:
        added = Toleration(key=key, operator="Exists", effect=effect)
        tolerations = (*request.gpus.tolerations, added)
        patch = [_toleration_patch(toleration) for toleration in tolerations]
        yield _gpu_change(f"tolerate the taint {key}:{effect}", "tolerations", patch, tolerations=tolerations)


def _toleration_patch(toleration: Toleration) -> dict[str, str]:
    fields = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
    }
    return {name: value for name, value in fields.items() if value}


def _gpu_change(summary: str, field: str, value: object, **fields: object) -> Change:
    def apply(request: Request) -> Request:
        return replace(request, gpus=replace(request.gpus, **fields))  # type: ignore[arg-type]

    return Change(summary=summary, patch={"gpu": {field: value}}, apply=apply, cost=_WIDER_GPUS)


def _other_parallelism(decision: Decision) -> Iterator[Change]:
    """Let the planner choose what was fixed, and say what it chose."""
    request = decision.request
    if request.replicas > 1:
        most = max((candidate.room.free for candidate in decision.candidates if _holds_memory(candidate)), default=0)
        if 0 < most < request.replicas:
            yield Change(
                summary=f"run {plural(most, 'replica')}",
                patch={"replicas": most},
                apply=lambda request: replace(request, replicas=most),
                cost=_FEWER_REPLICAS,
            )
    if request.tensor_parallel_size is not None or request.pipeline_parallel_size is not None:
        yield from _other_group_sizes(decision)
    if request.max_num_seqs is not None or request.max_num_batched_tokens is not None:
        yield Change(
            summary="let the planner choose the batch size",
            patch={"engine": {"maxNumSeqs": None, "maxNumBatchedTokens": None}},
            apply=lambda request: replace(request, max_num_seqs=None, max_num_batched_tokens=None),
            cost=_MORE_GPUS,
        )


def _other_group_sizes(decision: Decision) -> Iterator[Change]:
    """Offer other tensor-parallel sizes in place of what was fixed: more GPUs first, the nearest first."""
    request = decision.request
    fixed = (request.tensor_parallel_size or 1) * (request.pipeline_parallel_size or 1)
    most = max((capacity.most_gpus_on_a_node for capacity in decision.capacity.classes), default=0)
    sizes = [size for size in TENSOR_SIZES if size <= most and size != request.tensor_parallel_size]
    ordered = sorted(size for size in sizes if size > fixed) + sorted((s for s in sizes if s <= fixed), reverse=True)
    removed = {"pipelineParallelSize": None} if request.pipeline_parallel_size is not None else {}
    copies = request.data_parallel_size or 1
    for rank, size in enumerate(ordered):
        yield Change(
            summary=f"use {plural(size * copies, 'GPU')} per replica ({TENSOR_SIZE} {size})",
            patch={"engine": {TENSOR_SIZE: size, **removed}},
            apply=_with_tensor_size(size),
            cost=_MORE_GPUS + rank * _FURTHER_SIZE,
            one_of=TENSOR_SIZE,
        )


def _with_tensor_size(size: int) -> Callable[[Request], Request]:
    def apply(request: Request) -> Request:
        return replace(request, tensor_parallel_size=size, pipeline_parallel_size=None)

    return apply


def _holds_memory(candidate: Candidate) -> bool:
    return candidate.need is not None and candidate.need.fits


def _policy(decision: Decision) -> Iterator[Change]:
    policy = decision.request.policy
    if policy.gpu_memory_utilization < HIGHEST_UTILIZATION:
        yield _policy_change(
            f"let vLLM take {HIGHEST_UTILIZATION:.0%} of the GPU",
            "gpuMemoryUtilization",
            HIGHEST_UTILIZATION,
            _HIGHER_UTILIZATION,
            gpu_memory_utilization=HIGHEST_UTILIZATION,
        )
    if policy.headroom_gb > 0:
        yield _policy_change(
            f"accept less than {policy.headroom_gb:g} GiB of headroom", "headroomGb", 0, _LESS_HEADROOM, headroom_gb=0.0
        )


def _policy_change(summary: str, field: str, value: float, cost: float, **fields: float) -> Change:
    def apply(request: Request) -> Request:
        return replace(request, policy=replace(request.policy, **fields))  # type: ignore[arg-type]

    return Change(summary=summary, patch={"policy": {field: value}}, apply=apply, cost=cost)


def less_work(request: Request, facts: ModelFacts, held: Work) -> Iterator[Change]:
    """Yield the fewer sequences and the shorter context that some class with free GPUs holds."""
    asked, own_limit = request.context_length, facts.max_model_len
    if asked is not None and asked > own_limit:
        yield _context_change(own_limit, asked)
        return
    if asked is not None or request.concurrency > 1:
        yield from concurrency_change(held.sequences, request)
    if asked is None:
        return
    longest = _readable(held.context)
    if min(SMALLEST_CONTEXT, own_limit) <= longest < asked:
        yield _context_change(longest, asked)


def _readable(context: int) -> int:
    step = 1024 if context >= READABLE_CONTEXT else CONTEXT_STEP
    return context - context % step


def concurrency_change(concurrency: int, request: Request) -> Iterator[Change]:
    """Yield the change to that concurrency, where it is less than what is asked for."""
    if 1 <= concurrency < request.concurrency:
        share = concurrency / request.concurrency
        yield Change(
            summary=f"lower concurrency from {request.concurrency:,} to {concurrency:,}",
            patch={"workload": {"concurrency": concurrency}},
            apply=lambda request: replace(request, concurrency=concurrency),
            cost=_LESS_WORK + (1 - share),
            amount=concurrency,
        )


def _context_change(context: int, asked: int) -> Change:
    return Change(
        summary=f"shorten contextLength from {asked:,} to {context:,}",
        patch={"workload": {"contextLength": context}},
        apply=lambda request: replace(request, context_length=context),
        cost=_LESS_WORK + (1 - context / asked),
        amount=context,
    )


def _quality(decision: Decision) -> Iterator[Change]:
    """Offer fewer bits, where some GPU of the cluster computes with them and the checkpoint has not done so already."""
    request, facts = decision.request, decision.facts
    assert facts is not None
    devices = [candidate.device for candidate in decision.candidates if candidate.device is not None]
    capabilities = [capability for device in devices if (capability := compute_capability(device)) is not None]
    if not any(capability >= FIRST_CAPABILITY_WITH_FP8 for capability in capabilities):
        return
    if request.kv_cache_dtype == "auto" and not facts.kv_cache_quantized:
        yield Change(
            summary="use an FP8 KV cache",
            patch={"engine": {"kvCacheDtype": "fp8"}},
            apply=lambda request: replace(request, kv_cache_dtype="fp8"),
            cost=_KV_QUALITY,
            lowers_quality=True,
        )
    if request.quantization is None and facts.quantization is None:
        yield Change(
            summary="quantize the weights to FP8 while loading",
            patch={"engine": {"quantization": "fp8"}},
            apply=lambda request: replace(request, quantization="fp8"),
            cost=_WEIGHT_QUALITY,
            lowers_quality=True,
        )

"""The command line of vLLM for a chosen candidate, each flag with its reason.

A flag is left out when the release does not have it: vLLM refuses to start over an unknown flag.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.api.spec import BatchingMode
from vllm_operator.cluster.records import Sharing
from vllm_operator.planning.families import IMAGE_TEMPLATES
from vllm_operator.planning.flags import canonical, flags_of
from vllm_operator.planning.plan import Reason
from vllm_operator.planning.request import AUTO, OFF
from vllm_operator.planning.source import parse_address
from vllm_operator.planning.tuning import compute_capability, dtype_for, lora_config, speculative_config
from vllm_operator.planning.wording import need_gib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.planning.candidate import Candidate
    from vllm_operator.planning.families import Family
    from vllm_operator.planning.request import Request
    from vllm_operator.planning.tuning import Parallelism


FIRST_BLACKWELL_CAPABILITY = (10, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag of the command line: a switch (no values), or one or more values."""

    name: str
    values: tuple[str, ...]
    why: str

    @property
    def tokens(self) -> tuple[str, ...]:
        """As `vllm serve` reads it."""
        return (f"--{self.name}", *self.values)

    @property
    def reason(self) -> Reason:
        """As the plan explains it."""
        return Reason(flag=self.name, value=" ".join(self.values), why=self.why)


def _flag(name: str, value: object, why: str) -> Flag:
    return Flag(name=name, values=(str(value),), why=why)


def _switch(name: str, why: str) -> Flag:
    return Flag(name=name, values=(), why=why)


def command_line(
    request: Request,
    facts: ModelFacts | None,
    family: Family | None,
    candidate: Candidate | None,
    *,
    revision: str | None,
    image_is_ours: bool,
) -> tuple[tuple[str, ...], tuple[Reason, ...]]:
    """Everything after `vllm serve` and why.

    Without facts or a judged candidate only what the user fixed is set, and vLLM chooses the longest context itself.
    """
    address = parse_address(request.model_uri)
    flags = [*_identity(request, revision)]
    if candidate is not None and candidate.need is not None and facts is not None:
        flags += [*_shape(request, facts, candidate), *_batch(request, facts, candidate)]
    else:
        flags += [*_unjudged(request, candidate)]
    flags += [*_engine(request), *_adapters(request)]
    if facts is not None and not facts.generates:
        flags.append(_flag("runner", "pooling", "the model embeds or classifies, it does not generate"))
    elif facts is not None:
        flags += [*_conversation(request, family, image_is_ours=image_is_ours)]
    flags += [*_family_flags(request, family, candidate)]
    table = flags_of(request.engine_version)
    known = [flag for flag in flags if table.has(flag.name)]
    return (
        (address.argument, *(token for flag in known for token in flag.tokens), *request.extra_args),
        tuple(flag.reason for flag in known),
    )


def pinned_revision(request: Request, facts: ModelFacts | None) -> str | None:
    """The commit that was resolved, else the revision that was asked for; None off the Hub."""
    if not parse_address(request.model_uri).is_hub:
        return None
    resolved = facts.source.revision if facts is not None and facts.source is not None else None
    return resolved or request.revision


def _identity(request: Request, revision: str | None) -> Iterator[Flag]:
    if request.served_name is not None:
        yield _flag("served-model-name", request.served_name, "spec.model.servedName")
    if revision is not None:
        yield _flag("revision", revision, "every replica serves the commit that was planned")
    load_format = parse_address(request.model_uri).load_format
    if load_format is not None:
        yield _flag("load-format", load_format, "streams the weights from the object store without a copy on disk")
    if request.trust_remote_code:
        yield _switch("trust-remote-code", "spec.model.trustRemoteCode")


def _shape(request: Request, facts: ModelFacts, candidate: Candidate) -> Iterator[Flag]:
    assert candidate.device is not None
    dtype, dtype_reason = dtype_for(request, facts, candidate.device)
    if dtype != "auto":
        yield _flag("dtype", dtype, dtype_reason or "spec.engine.dtype")
    if request.quantization is not None:
        yield _flag("quantization", request.quantization, "spec.engine.quantization")
    yield from _parallelism(request, candidate)


def _parallelism(request: Request, candidate: Candidate) -> Iterator[Flag]:
    spread = candidate.parallelism
    if spread.tensor > 1 or request.tensor_parallel_size is not None:
        yield _flag("tensor-parallel-size", spread.tensor, _why_tensor(request, candidate))
    if spread.pipeline > 1:
        yield _flag("pipeline-parallel-size", spread.pipeline, _why_pipeline(request, spread))
    if spread.nodes > 1:
        why = "as many stages on each node; vLLM's own processes talk to each other, without Ray"
        yield _flag("nnodes", spread.nodes, why)
    if spread.data > 1:
        yield _flag("data-parallel-size", spread.data, _why_data(request, spread))
    if spread.expert:
        asked = request.expert_parallel is not None
        spreads = "the experts stay spread over all GPUs" if spread.data > 1 else "as the model's recipe runs it"
        why = "spec.engine.expertParallel" if asked else f"whole experts per GPU, {spreads}"
        yield _switch("enable-expert-parallel", why)


def _why_data(request: Request, spread: Parallelism) -> str:
    if request.data_parallel_size is not None:
        return "spec.engine.dataParallelSize"
    return f"{spread.data} copies of the attention hold different sequences; cut up, each GPU would have to hold all"


def _why_pipeline(request: Request, spread: Parallelism) -> str:
    if request.pipeline_parallel_size is not None:
        return "spec.engine.pipelineParallelSize"
    if spread.nodes > 1:
        return "no single node holds the model; stages pass activations on once, tensor parallelism stays in a node"
    return "no tensor parallel size of one node holds the model"


def _why_tensor(request: Request, candidate: Candidate) -> str:
    if request.tensor_parallel_size is not None:
        return "spec.engine.tensorParallelSize"
    if candidate.parallelism.nodes > 1:
        return "as many GPUs of each node as it takes for the fewest pipeline stages"
    return f"fewest {candidate.capacity.gpu_class.product or 'GPU'}s of one node that hold the workload"


def _batch(request: Request, facts: ModelFacts, candidate: Candidate) -> Iterator[Flag]:
    assert candidate.size is not None
    batching = candidate.size.batching
    yield _flag("max-model-len", candidate.context_length, _why_context(request, facts, candidate))
    yield _flag("max-num-seqs", batching.max_num_seqs, _why_sequences(request, candidate))
    yield _flag("max-num-batched-tokens", batching.max_num_batched_tokens, _why_tokens(request, candidate))
    yield _flag("gpu-memory-utilization", f"{candidate.size.utilization:g}", _why_utilization(request, candidate))
    if request.kv_cache_dtype != "auto":
        yield _flag("kv-cache-dtype", request.kv_cache_dtype, "spec.engine.kvCacheDtype")
    elif facts.kv_cache_quantized:
        yield _flag("kv-cache-dtype", "fp8", "the checkpoint ships scales for an FP8 KV cache")
    else:
        yield _flag("kv-cache-dtype", "auto", "as the model computes: fewer bits would cost quality")


def _why_context(request: Request, facts: ModelFacts, candidate: Candidate) -> str:
    if request.context_length is None:
        if candidate.context_length >= facts.max_model_len:
            return "the model's own limit"
        return (
            f"the longest of which {candidate.concurrency} hold at once; the model's own limit is {facts.max_model_len}"
        )
    if candidate.context_length < request.context_length:
        return f"autoAdjust: {request.context_length} does not fit"
    return "spec.workload.contextLength"


def _why_sequences(request: Request, candidate: Candidate) -> str:
    if request.max_num_seqs is not None:
        return "spec.engine.maxNumSeqs"
    if candidate.size is not None and candidate.size.batching.limited_by_state:
        return "the cache holds the recurrent state of so many sequences, and vLLM stops over more"
    if candidate.size is not None and candidate.size.batching.compact:
        return "kept small: a larger batch's buffers do not fit"
    match request.batching_mode:
        case BatchingMode.THROUGHPUT:
            return "batchingMode Throughput: vLLM's own limit for this GPU"
        case BatchingMode.LATENCY:
            return "batchingMode Latency: fewer sequences share a step"
        case BatchingMode.BALANCED:
            return "batchingMode Balanced: more sequences mostly enlarge the sampler's buffer"


def _why_tokens(request: Request, candidate: Candidate) -> str:
    if request.max_num_batched_tokens is not None:
        return "spec.engine.maxNumBatchedTokens"
    if candidate.size is not None and candidate.size.batching.compact:
        return "kept small: a larger batch's activations do not fit"
    match request.batching_mode:
        case BatchingMode.THROUGHPUT:
            return "batchingMode Throughput: twice vLLM's default for this GPU"
        case BatchingMode.LATENCY:
            return "batchingMode Latency: a chunk of prefill delays all decoding sequences by its own time"
        case BatchingMode.BALANCED:
            return "vLLM's default for this GPU, pinned so that an update cannot move it"


def _why_utilization(request: Request, candidate: Candidate) -> str:
    if candidate.size is not None and candidate.size.utilization < request.policy.gpu_memory_utilization:
        if candidate.capacity.gpu_class.sharing is not Sharing.TIME_SLICED:
            held = need_gib(candidate.capacity.in_use_bytes)
            return f"processes outside Kubernetes hold {held} GiB of the GPU, and vLLM stops over more than is free"
        return "an equal part of spec.policy.gpuMemoryUtilization for each pod that the GPU is time-sliced between"
    return "spec.policy.gpuMemoryUtilization: the rest stays for the CUDA context and communication"


def _unjudged(request: Request, candidate: Candidate | None) -> Iterator[Flag]:
    """What can be said without arithmetic; vLLM then fits the context to the memory itself."""
    if request.dtype != "auto":
        yield _flag("dtype", request.dtype, "spec.engine.dtype")
    if request.quantization is not None:
        yield _flag("quantization", request.quantization, "spec.engine.quantization")
    if candidate is not None:
        yield from _parallelism(request, candidate)
    if request.context_length is not None:
        yield _flag("max-model-len", request.context_length, "spec.workload.contextLength")
    else:
        yield _flag("max-model-len", "auto", "memory or model unknown: vLLM takes the longest context that fits")
    if request.max_num_seqs is not None:
        yield _flag("max-num-seqs", request.max_num_seqs, "spec.engine.maxNumSeqs")
    if request.max_num_batched_tokens is not None:
        yield _flag("max-num-batched-tokens", request.max_num_batched_tokens, "spec.engine.maxNumBatchedTokens")
    yield _flag(
        "gpu-memory-utilization", f"{request.policy.gpu_memory_utilization:g}", "spec.policy.gpuMemoryUtilization"
    )
    if request.kv_cache_dtype != "auto":
        yield _flag("kv-cache-dtype", request.kv_cache_dtype, "spec.engine.kvCacheDtype")


def _engine(request: Request) -> Iterator[Flag]:
    if request.enforce_eager:
        yield _switch("enforce-eager", "spec.engine.enforceEager")
    speculative = speculative_config(request)
    if speculative is not None:
        yield _flag("speculative-config", json.dumps(speculative, sort_keys=True), "spec.engine.speculative")


def _adapters(request: Request) -> Iterator[Flag]:
    config = lora_config(request)
    if config is None or request.lora is None:
        return
    yield _switch("enable-lora", "spec.engine.lora")
    yield _flag("max-loras", config["max_loras"], "spec.engine.lora.maxLoras")
    yield _flag("max-lora-rank", config["max_lora_rank"], "spec.engine.lora.maxRank")
    if request.lora.adapters:
        values = tuple(f"{adapter.name}={parse_address(adapter.uri).argument}" for adapter in request.lora.adapters)
        yield Flag(name="lora-modules", values=values, why="spec.engine.lora.adapters")


def _conversation(request: Request, family: Family | None, *, image_is_ours: bool) -> Iterator[Flag]:
    title = family.title if family is not None else ""
    table = flags_of(request.engine_version)
    runs = family if family is not None and not (image_is_ours and family.parsers_import) else None
    tool_parser, tool_why = _parser(
        request.tool_calling,
        runs.tool_parser if runs and runs.tool_parser in table.tool_parsers else None,
        "toolCalling",
        f"{title} writes tool calls this way",
    )
    if tool_parser is not None:
        yield _switch("enable-auto-tool-choice", "the model decides when to call a tool")
        yield _flag("tool-call-parser", tool_parser, tool_why)
        if family is not None and family.chat_template is not None and image_is_ours:
            why = "the checkpoint's own template does not render tools"
            yield _flag("chat-template", f"{IMAGE_TEMPLATES}/{family.chat_template}", why)
    reasoning_parser, reasoning_why = _parser(
        request.reasoning,
        runs.reasoning_parser if runs and runs.reasoning_parser in table.reasoning_parsers else None,
        "reasoning",
        f"{title} marks its thoughts this way",
    )
    if reasoning_parser is not None:
        yield _flag("reasoning-parser", reasoning_parser, reasoning_why)
        if family is not None and family.template_options:
            options = json.dumps(dict(family.template_options))
            yield _flag("default-chat-template-kwargs", options, f"{title} thinks only when told to")


def _parser(wanted: str, known: str | None, field: str, why: str) -> tuple[str | None, str]:
    if wanted == OFF:
        return None, ""
    return (known, why) if wanted == AUTO else (wanted, f"spec.engine.{field}")


def _family_flags(request: Request, family: Family | None, candidate: Candidate | None) -> Iterator[Flag]:
    if family is None:
        return
    capability = compute_capability(candidate.device) if candidate is not None and candidate.device else None
    is_blackwell = capability is not None and capability >= FIRST_BLACKWELL_CAPABILITY
    given = set(_names(request.extra_args))
    for name, value in (*family.flags, *(family.blackwell_flags if is_blackwell else ())):
        if canonical(name) in given or (name == "reasoning-config" and request.reasoning == OFF):
            continue
        why = f"as the vLLM project runs {family.title}"
        yield _switch(name, why) if value is None else _flag(name, value, why)


def _names(arguments: Iterable[str]) -> Iterator[str]:
    for argument in arguments:
        if argument.startswith("--"):
            yield canonical(argument.removeprefix("--").partition("=")[0])

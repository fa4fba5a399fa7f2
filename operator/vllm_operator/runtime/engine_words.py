"""What vLLM says before it dies, and what its user can do about it.

The words are vLLM's own (tests/unit/runtime/last_words.yaml has them with their versions). The figures in them are
taken over: vLLM has just measured what the planner could only predict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.api import conditions as reasons

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_QUOTE: Final = 300

_POINTS_BACK: Final = re.compile(r"See (?:root cause above|stack trace for root cause)")
_NAMES_AN_ERROR: Final = re.compile(r"\b\w*(?:Error|Exception): ")


@dataclass(frozen=True, slots=True)
class Saying:
    """One way in which vLLM says what is wrong."""

    reason: str
    pattern: re.Pattern[str]
    fact: Callable[[re.Match[str]], str]
    advice: Callable[[re.Match[str]], str]
    most_context: int | None = None
    """Group of the pattern with the longest context that there is room for."""
    most_sequences: int | None = None
    """Group of the pattern with the most sequences that there is room for."""


@dataclass(frozen=True, slots=True)
class Understood:
    """What was made of the words: a reason, the fact with vLLM's figures, and the next step."""

    reason: str
    fact: str
    advice: str
    most_context: int | None = None
    """The longest context that there is room for, where vLLM says so."""
    most_sequences: int | None = None
    """The most sequences that there is room for, where vLLM says so."""


def understand(words: str) -> Understood | None:
    """Return what the words say; None where they say nothing that is known."""
    for saying in SAYINGS:
        if (found := saying.pattern.search(words)) is not None:
            return Understood(
                saying.reason,
                saying.fact(found),
                saying.advice(found),
                most_context=_number(found[saying.most_context]) if saying.most_context else None,
                most_sequences=_number(found[saying.most_sequences]) if saying.most_sequences else None,
            )
    return None


def last_line(words: str) -> str:
    """Return the last line that names an error, else the last one that says something, "" when none does.

    What vLLM ends with sends the reader to an earlier line, through as many processes as it has.
    """
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if not _POINTS_BACK.search(line)]
    errors = [line for line in telling if _NAMES_AN_ERROR.search(line)]
    return (errors or telling or lines or [""])[-1][:_LONGEST_QUOTE]


def _always(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


def _saying(
    reason: str,
    pattern: str,
    fact: str | Callable[[re.Match[str]], str],
    advice: str | Callable[[re.Match[str]], str],
    *,
    most_context: int | None = None,
    most_sequences: int | None = None,
) -> Saying:
    return Saying(
        reason,
        re.compile(pattern, re.DOTALL),
        _always(fact) if isinstance(fact, str) else fact,
        _always(advice) if isinstance(advice, str) else advice,
        most_context,
        most_sequences,
    )


def _number(text: str) -> int:
    return int(text.replace(",", ""))


_LESS_MEMORY: Final = "raise spec.policy.overheadGb, or lower spec.engine.maxNumBatchedTokens or maxNumSeqs"
_TOKEN: Final = "give spec.model.tokenSecretRef a token of an account that was granted access to the model"
_N: Final = r"(\d[\d,]*)"

SAYINGS: Final = (
    _saying(
        reasons.KV_CACHE_TOO_SMALL,
        # v1/core/kv_cache_utils.py; before 0.33 with brackets around the whole sentence.
        rf"max seq len \({_N}\),\s*\(?([\d.]+) GiB KV cache is needed, which is larger than the available KV cache"
        r" memory\s*\(([\d.]+) GiB\)\.\s*Based on the available memory,"
        rf"\s*the\s*estimated maximum model length is {_N}",
        lambda found: (
            f"vLLM needs {found[2]} GiB of KV cache for {_number(found[1])} tokens and has {found[3]} GiB"
            " beside the weights"
        ),
        lambda found: f"set spec.workload.contextLength to at most {_number(found[4])}",
        most_context=4,
    ),
    _saying(
        reasons.KV_CACHE_TOO_SMALL,
        rf"estimated maximum model length is {_N}",
        "vLLM's KV cache is too small for the context",
        lambda found: f"set spec.workload.contextLength to at most {_number(found[1])}",
        most_context=1,
    ),
    _saying(
        reasons.KV_CACHE_TOO_SMALL,
        rf"max_num_seqs \({_N}\) exceeds (?:the number of )?available Mamba cache blocks \({_N}\)",
        lambda found: f"vLLM has room for the state of {_number(found[2])} sequences, not of {_number(found[1])}",
        lambda found: f"set spec.engine.maxNumSeqs to at most {_number(found[2])}",
        most_sequences=2,
    ),
    _saying(
        reasons.KV_CACHE_TOO_SMALL,
        r"No available memory for the cache blocks|KV cache is needed, which is larger than",
        "vLLM has no memory left for its KV cache",
        "lower spec.workload.contextLength or spec.engine.maxNumBatchedTokens, or use a larger GPU or more of them",
    ),
    _saying(
        reasons.GPU_IN_USE,
        r"Free memory on device(?: \S+)? \(([\d.]+)/([\d.]+) GiB\) on startup is\s+less than desired GPU memory\s+"
        r"utilization \(([\d.]+), ([\d.]+) GiB\)",
        lambda found: f"{found[1]} of {found[2]} GiB are free on the GPU where vLLM takes {found[4]} GiB at its start",
        "end what else runs on that GPU, or lower spec.policy.gpuMemoryUtilization",
    ),
    _saying(
        reasons.OUT_OF_GPU_MEMORY,
        r"(?:CUDA|HIP) out of memory\. Tried to allocate ([\d.]+ [KMG]iB)\. GPU \d+ has a total capacity of"
        r" ([\d.]+ GiB) of which ([\d.]+ [KMG]iB) is free",
        lambda found: f"a GPU of {found[2]} ran out of memory: {found[1]} more were asked for, {found[3]} were free",
        _LESS_MEMORY,
    ),
    _saying(
        reasons.OUT_OF_GPU_MEMORY,
        r"(?:CUDA|HIP) out of memory|torch\.(?:cuda\.)?OutOfMemoryError|CUDA error: out of memory"
        r"|not enough GPU memory|CUDA out of memory occurred when warming up",
        "a GPU ran out of memory",
        _LESS_MEMORY,
    ),
    _saying(
        reasons.SHARED_MEMORY_TOO_SMALL,
        r"/dev/shm[^\n]*(?:too small|not enough|No space left|only \d)"
        r"|(?:too small|not enough|No space left)[^\n]*/dev/shm|Bus error[^\n]*shared memory",
        "/dev/shm is too small for vLLM's message queues",
        "give the volume `shm` a larger emptyDir.sizeLimit in spec.podTemplate",
    ),
    _saying(
        reasons.MODEL_GATED,
        r"GatedRepoError|Cannot access gated repo|Access to model \S+ is restricted",
        "the hub refused the gated model to this pod",
        _TOKEN,
    ),
    _saying(
        reasons.MODEL_NOT_FOUND,
        r"RepositoryNotFoundError|RevisionNotFoundError|404 Client Error|is not a valid model identifier"
        r"|Repo id must be in the form|LocalEntryNotFoundError|Cannot find an appropriate cached snapshot folder",
        "vLLM finds no such model",
        "check spec.model.uri and spec.model.revision, that the pod reaches the hub or the volume has that path, and"
        " spec.model.tokenSecretRef where the model is private",
    ),
    _saying(
        reasons.MODEL_GATED,
        r"40[13] Client Error",  # behind the above: the hub answers 401 also for a name that it does not know
        "the hub refused the model to this pod",
        _TOKEN,
    ),
    _saying(
        reasons.MODEL_UNREADABLE,
        r"(?:PermissionError|No such file or directory)[^\n]*(\.safetensors|\.bin|config\.json)",
        "vLLM cannot read the model's files",
        "make them readable for user and group 65532 on the volume",
    ),
    _saying(
        reasons.CONTEXT_TOO_LONG,
        r"max_model_len \((\d+)\) is greater than the derived max_model_len \([^=)]*=(\d+)",
        lambda found: f"{found[1]} tokens are asked for and the model knows {found[2]} positions",
        lambda found: f"set spec.workload.contextLength to at most {found[2]}",
    ),
    _saying(
        reasons.UNSUPPORTED_QUANTIZATION,
        r"quantization method (\S+) is not supported for the current GPU\.\s*Minimum capability: (\d+)\."
        r"\s*Current capability: (\d+)",
        lambda found: f"{found[1]} needs compute capability {int(found[2]) / 10} and the GPU has {int(found[3]) / 10}",
        "choose newer GPUs in spec.gpu.products, or a checkpoint that is quantized otherwise",
    ),
    _saying(
        reasons.UNSUPPORTED_QUANTIZATION,
        r"Unknown quantization method: (\S+?)[.\s]|Cannot find the config file for (\w+)"
        r"|Quantization method specified in the model config \((\w+)\) does not match",
        lambda found: f"vLLM cannot run this checkpoint as {found[1] or found[2] or found[3]!s}",
        "remove spec.engine.quantization: vLLM then reads the method from the checkpoint",
    ),
    _saying(
        reasons.UNSUPPORTED_DTYPE,
        r"Bfloat16 is only supported on GPUs with compute capability of at least ([\d.]+)",
        lambda found: f"bfloat16 needs compute capability {found[1].rstrip('.')}, which the GPU has not",
        "set spec.engine.dtype to half, or choose newer GPUs in spec.gpu.products",
    ),
    _saying(
        reasons.UNSUPPORTED_MODEL,
        r"Model architectures? (\[.*?\]) (?:are|is) not supported",
        lambda found: f"this vLLM does not know the architecture {found[1]}",
        "set spec.engine.version to a release that does",
    ),
    _saying(
        reasons.UNSUPPORTED_MODEL,
        r"trust_remote_code=True|contains custom code which must be executed",
        "the model comes with code of its own, which is not run without your consent",
        "read that code and set spec.model.trustRemoteCode",
    ),
    _saying(
        reasons.INVALID_ARGUMENT,
        r"vllm(?: serve)?: error: ([^\n]+)",
        lambda found: f"vLLM refuses its arguments: {found[1][:_LONGEST_QUOTE]}",
        "correct spec.engine.extraArgs, or set spec.engine.version to the release of spec.engine.image",
    ),
    _saying(
        reasons.WORKER_DIED,
        r"Worker proc (\S+) died unexpectedly(?: \(exit code: (-?\d+)\))?",
        lambda found: (
            f"vLLM's worker {found[1].rstrip(',')} died" + (f" with exit code {found[2]}" if found[2] else "")
        ),
        "look for its own last lines in the log before this pod's end (`kubectl logs --previous`), and at the node's"
        " memory and GPU errors",
    ),
)
"""Tried in this order: the root cause before what follows from it, the wording with figures before the bare one."""

"""Rules between fields: each once as CEL for the API server, once in Python for the offline planner.

A rule needs no cluster. Both forms stand side by side so that a change of one is seen beside the other; a table of
accepted and refused examples holds them together (tests/unit/api/rule_examples.yaml), applied to both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.api.managed_flags import MANAGED_FLAGS, managed_flag
from vllm_operator.api.spec import CacheType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vllm_operator.api.spec import VLLMDeploymentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule at one place of the spec; `path` is where the CEL expression's `self` is, relative to the spec."""

    path: str
    cel: str
    message: str
    holds: Callable[[VLLMDeploymentSpec], bool]


def _is_hub_uri(uri: str) -> bool:
    return "://" not in uri or uri.startswith("hf://")


def _enough_context(spec: VLLMDeploymentSpec) -> bool:
    workload = spec.workload
    if workload.context_length is None:
        return True
    return (workload.prompt_tokens or 0) + (workload.generation_tokens or 0) <= workload.context_length


def _batch_holds_a_sequence_of_each(spec: VLLMDeploymentSpec) -> bool:
    engine = spec.engine
    if engine.max_num_seqs is None or engine.max_num_batched_tokens is None:
        return True
    return engine.max_num_batched_tokens >= engine.max_num_seqs


# The flag names are spelled out in the expression: CEL has no variables that outlive it, and the list is bounded.
_MANAGED_CEL: Final = ", ".join(f"'{flag}'" for flag in sorted(MANAGED_FLAGS))

RULES: Final = (
    Rule(
        path="",
        cel="!(has(self.replicas) && has(self.scaling))",
        message="replicas and scaling exclude each other: remove one of them",
        holds=lambda spec: spec.replicas is None or spec.scaling is None,
    ),
    Rule(
        path="scaling",
        cel="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
        message="minReplicas must not be greater than maxReplicas",
        holds=lambda spec: spec.scaling is None or spec.scaling.min_replicas <= spec.scaling.max_replicas,
    ),
    Rule(
        path="model",
        cel="!has(self.tokenSecretRef) || !self.uri.contains('://') || self.uri.startsWith('hf://')",
        message="tokenSecretRef is the hub's token: it goes with a hub model only, not with pvc://, s3:// or oci://",
        holds=lambda spec: spec.model.token_secret_ref is None or _is_hub_uri(spec.model.uri),
    ),
    Rule(
        path="model",
        cel="!has(self.revision) || !self.uri.contains('://') || self.uri.startsWith('hf://')",
        message="revision is a hub revision: it goes with a hub model only, not with pvc://, s3:// or oci://",
        holds=lambda spec: spec.model.revision is None or _is_hub_uri(spec.model.uri),
    ),
    Rule(
        path="workload",
        cel="!has(self.contextLength) || (has(self.promptTokens) ? self.promptTokens : 0)"
        " + (has(self.generationTokens) ? self.generationTokens : 0) <= self.contextLength",
        message="promptTokens + generationTokens must not be greater than contextLength",
        holds=_enough_context,
    ),
    Rule(
        path="engine",
        cel="!has(self.maxNumSeqs) || !has(self.maxNumBatchedTokens) || self.maxNumBatchedTokens >= self.maxNumSeqs",
        message="maxNumBatchedTokens must be at least maxNumSeqs: vLLM refuses to start otherwise",
        holds=_batch_holds_a_sequence_of_each,
    ),
    Rule(
        path="engine",
        cel=f"!has(self.extraArgs) || self.extraArgs.all(a, !(a.split('=')[0].replace('_', '-') in [{_MANAGED_CEL}]))",
        message="extraArgs must not contain a flag that the operator manages: set the field of the spec instead",
        holds=lambda spec: not any(managed_flag(argument) for argument in spec.engine.extra_args),
    ),
    Rule(
        path="cache",
        cel="!has(self.hostPath) || (has(self.type) && self.type == 'HostPath')",
        message="hostPath goes with type HostPath only",
        holds=lambda spec: spec.cache.host_path is None or spec.cache.type is CacheType.HOST_PATH,
    ),
    Rule(
        path="cache",
        cel="!has(self.type) || self.type != 'HostPath' || has(self.hostPath)",
        message="type HostPath needs hostPath",
        holds=lambda spec: spec.cache.type is not CacheType.HOST_PATH or spec.cache.host_path is not None,
    ),
    Rule(
        path="cache",
        cel="!has(self.type) || self.type != 'PersistentVolumeClaim' || has(self.claimName) || has(self.size)",
        message="type PersistentVolumeClaim needs size (a claim is made) or claimName (an existing one is used)",
        holds=lambda spec: (
            spec.cache.type is not CacheType.PERSISTENT_VOLUME_CLAIM
            or spec.cache.claim_name is not None
            or spec.cache.size is not None
        ),
    ),
)
"""All rules; those of one path are attached to that part of the schema."""


def check_spec(spec: VLLMDeploymentSpec) -> Iterator[tuple[str, str]]:
    """Yield path and message of each rule that a spec breaks; extraArgs name the flag and the field to use."""
    for rule in RULES:
        if not rule.holds(spec):
            yield ".".join(part for part in ("spec", rule.path) if part), rule.message
    for index, argument in enumerate(spec.engine.extra_args):
        flag = managed_flag(argument)
        if flag is not None:
            yield f"spec.engine.extraArgs[{index}]", f"{flag} is managed by the operator: set {MANAGED_FLAGS[flag]}"

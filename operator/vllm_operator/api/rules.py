"""Rules between fields: each once as CEL for the API server, once in Python for the offline planner.

A rule needs no cluster. Both forms stand side by side so that a change of one is seen beside the other; a table of
accepted and refused examples holds them together (tests/unit/api/rule_examples.yaml), applied to both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.api.exposure import Toggle
from vllm_operator.api.managed_flags import MANAGED_FLAGS, managed_flag
from vllm_operator.api.pod_template import overlay_problems
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


NEEDS_DRAFT_MODEL: Final = ("draft_model", "eagle", "eagle3", "medusa", "mlp_speculator")
"""Methods of speculative decoding that run a second model (vllm/config/speculative.py)."""


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


def _draft_model_given(spec: VLLMDeploymentSpec) -> bool:
    speculative = spec.engine.speculative
    if speculative is None or speculative.method not in NEEDS_DRAFT_MODEL:
        return True
    return speculative.model_uri is not None


def _volume_of(uri: str) -> str | None:
    """Return the claim or image that a model lies on, None when it is fetched."""
    if uri.startswith("pvc://"):
        return "/".join(uri.split("/")[:3])
    return uri if uri.startswith("oci://") else None


def _one_model_volume(spec: VLLMDeploymentSpec) -> bool:
    engine = spec.engine
    uris = [spec.model.uri]
    if engine.speculative is not None and engine.speculative.model_uri is not None:
        uris.append(engine.speculative.model_uri)
    if engine.lora is not None:
        uris += [adapter.uri for adapter in engine.lora.adapters]
    return len({volume for volume in map(_volume_of, uris) if volume is not None}) <= 1


def _tolerations_match_something(spec: VLLMDeploymentSpec) -> bool:
    return all(
        not toleration.value if toleration.operator == "Exists" else toleration.key is not None
        for toleration in spec.gpu.tolerations
    )


def _toleration_seconds_evict(spec: VLLMDeploymentSpec) -> bool:
    return all(
        toleration.toleration_seconds is None or toleration.effect == "NoExecute" for toleration in spec.gpu.tolerations
    )


def _zero_replicas_can_wake(spec: VLLMDeploymentSpec) -> bool:
    scaling = spec.scaling
    if scaling is None or scaling.keda is None or scaling.min_replicas > 0:
        return True
    return scaling.keda.query is not None


def _requests_are_scraped(spec: VLLMDeploymentSpec) -> bool:
    keda = spec.scaling.keda if spec.scaling is not None else None
    return keda is None or keda.query is not None or spec.monitoring.pod_monitor is not Toggle.OFF


def _gateway_does_something(spec: VLLMDeploymentSpec) -> bool:
    gateway = spec.gateway
    return gateway is None or bool(gateway.parent_refs) or gateway.inference_pool is not None


def _route_fields_have_a_route(spec: VLLMDeploymentSpec) -> bool:
    gateway = spec.gateway
    if gateway is None or gateway.parent_refs:
        return True
    return not gateway.hostnames and gateway.path_prefix is None and gateway.request_timeout_seconds is None


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
        path="",
        # The API server compares with the model's claim; two claims among the adapters of a hub model are found by us.
        cel="!self.model.uri.startsWith('pvc://') || !has(self.engine) || !has(self.engine.lora)"
        " || !has(self.engine.lora.adapters) || self.engine.lora.adapters.all(a, !a.uri.startsWith('oci://')"
        " && (!a.uri.startsWith('pvc://') || a.uri.split('/')[2] == self.model.uri.split('/')[2]))",
        message="model, draft model and adapters must lie on one claim or image, or come from the hub",
        holds=_one_model_volume,
    ),
    Rule(
        path="scaling",
        cel="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
        message="minReplicas must not be greater than maxReplicas",
        holds=lambda spec: spec.scaling is None or spec.scaling.min_replicas <= spec.scaling.max_replicas,
    ),
    Rule(
        path="scaling",
        cel="!has(self.metric) || !has(self.minReplicas) || self.minReplicas > 0",
        message="a HorizontalPodAutoscaler cannot scale to zero: set minReplicas to 1 or more, or use keda",
        holds=lambda spec: spec.scaling is None or spec.scaling.metric is None or spec.scaling.min_replicas > 0,
    ),
    Rule(
        path="scaling",
        cel="!(has(self.metric) && has(self.keda))",
        message="metric and keda exclude each other: two autoscalers would fight over the replicas",
        holds=lambda spec: spec.scaling is None or spec.scaling.metric is None or spec.scaling.keda is None,
    ),
    Rule(
        path="scaling",
        cel="!has(self.keda) || !has(self.minReplicas) || self.minReplicas > 0 || has(self.keda.query)",
        message="with minReplicas 0, keda needs a query of its own, such as one of a gateway's metrics: no pod is left"
        " whose requests could be counted",
        holds=_zero_replicas_can_wake,
    ),
    Rule(
        path="",
        cel="!has(self.scaling) || !has(self.scaling.keda) || has(self.scaling.keda.query) || !has(self.monitoring)"
        " || !has(self.monitoring.podMonitor) || self.monitoring.podMonitor != 'Off'",
        message="scaling.keda without query counts the requests that the PodMonitor has scraped: set query, or"
        " monitoring.podMonitor to Auto or On",
        holds=_requests_are_scraped,
    ),
    Rule(
        path="gateway",
        cel="(has(self.parentRefs) && size(self.parentRefs) > 0) || has(self.inferencePool)",
        message="set parentRefs (makes an HTTPRoute), inferencePool (makes an InferencePool) or both",
        holds=_gateway_does_something,
    ),
    Rule(
        path="gateway",
        cel="(has(self.parentRefs) && size(self.parentRefs) > 0)"
        " || !(has(self.hostnames) && size(self.hostnames) > 0) && !has(self.pathPrefix)"
        " && !has(self.requestTimeoutSeconds)",
        message="hostnames, pathPrefix and requestTimeoutSeconds are the HTTPRoute's: set parentRefs as well",
        holds=_route_fields_have_a_route,
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
        path="engine.speculative",
        cel=f"!(self.method in [{', '.join(repr(method) for method in NEEDS_DRAFT_MODEL)}]) || has(self.modelUri)",
        message="this method runs a second model: set modelUri",
        holds=_draft_model_given,
    ),
    Rule(
        path="engine.env[]",
        cel="!(has(self.value) && has(self.secretKeyRef))",
        message="value and secretKeyRef exclude each other: remove one of them",
        holds=lambda spec: all(env.value is None or env.secret_key_ref is None for env in spec.engine.env),
    ),
    Rule(
        path="gpu.tolerations[]",
        cel="has(self.operator) && self.operator == 'Exists' ? !has(self.value) || self.value == '' : has(self.key)",
        message="a toleration with operator Exists has no value, and one with operator Equal needs a key",
        holds=_tolerations_match_something,
    ),
    Rule(
        path="gpu.tolerations[]",
        cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        message="tolerationSeconds goes with effect NoExecute only",
        holds=_toleration_seconds_evict,
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


NAME_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
LONGEST_NAME: Final = 63
NAME_MESSAGE: Final = (
    f"must be a DNS label (lower case letters, digits and '-', first a letter) of at most {LONGEST_NAME} characters:"
    " the Service is named like it"
)
NAME_CEL: Final = f"self.metadata.name.size() <= {LONGEST_NAME} && self.metadata.name.matches('{NAME_PATTERN}')"
"""The one rule about the object itself rather than its spec."""


def check_name(name: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the object's name; an empty one is for the API server to refuse."""
    if name and (len(name) > LONGEST_NAME or re.fullmatch(NAME_PATTERN, name) is None):
        yield "metadata.name", NAME_MESSAGE


def check_spec(spec: VLLMDeploymentSpec) -> Iterator[tuple[str, str]]:
    """Yield path and message of each rule that a spec breaks; extraArgs name the flag and the field to use."""
    for rule in RULES:
        if not rule.holds(spec):
            yield ".".join(part for part in ("spec", rule.path) if part), rule.message
    for path, message in overlay_problems(spec.pod_template):
        yield ".".join(part for part in ("spec.podTemplate", path) if part), message
    for index, argument in enumerate(spec.engine.extra_args):
        flag = managed_flag(argument)
        if flag is not None:
            yield f"spec.engine.extraArgs[{index}]", f"{flag} is managed by the operator: set {MANAGED_FLAGS[flag]}"

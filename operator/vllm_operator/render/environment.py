"""Environment variables of the engine: caches on writable paths, the hub token by reference, the user's own last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.planning.source import parse_address
from vllm_operator.render.last_words import LOGGING_FILE
from vllm_operator.render.volumes import CACHE_PATH, model_uris

if TYPE_CHECKING:
    from vllm_operator.api.engine import EnvVar
    from vllm_operator.api.references import SecretKeyRef
    from vllm_operator.api.spec import VLLMDeploymentSpec

TOKEN_VARIABLE: Final = "HF_TOKEN"
HOST_VARIABLE: Final = "VLLM_HOST_IP"
"""The address at which other ranks reach this one (vllm/utils/network_utils.py `get_ip`)."""
API_KEY_VARIABLE: Final = "VLLM_API_KEY"
"""With it vLLM answers 401 to requests without the key on everything but /health, /metrics and the like."""

_ALWAYS: Final = {
    # uid 65532 is in no image's passwd: without HOME and USER, torch and others fail to look it up.
    "HOME": "/tmp",
    "USER": "vllm",
    "HF_HOME": f"{CACHE_PATH}/huggingface",
    "VLLM_CACHE_ROOT": f"{CACHE_PATH}/vllm",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_PATH}/inductor",
    "TRITON_CACHE_DIR": f"{CACHE_PATH}/triton",
    "VLLM_LOGGING_CONFIG_PATH": LOGGING_FILE,
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def engine_environment(spec: VLLMDeploymentSpec, *, nodes: int = 1) -> list[dict[str, Any]]:
    """Return the variables in a stable order; a variable of the user's replaces ours of the same name.

    As in a pod, `$(NAME)` in a user's value stands for another variable. `nodes`: over which a replica is spread.
    """
    found: dict[str, dict[str, Any]] = {name: {"name": name, "value": value} for name, value in _ALWAYS.items()}
    if nodes > 1:
        # Otherwise vLLM asks which address leads to the internet, and a pod with a second network may answer with that.
        found[HOST_VARIABLE] = {"name": HOST_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    if not any(parse_address(uri).is_hub for uri in model_uris(spec)):
        found["HF_HUB_OFFLINE"] = {"name": "HF_HUB_OFFLINE", "value": "1"}
    if spec.model.token_secret_ref is not None:
        found[TOKEN_VARIABLE] = _from_secret(TOKEN_VARIABLE, spec.model.token_secret_ref)
    for variable in spec.engine.env:
        found[variable.name] = _variable(variable)
    return list(found.values())


def _variable(variable: EnvVar) -> dict[str, Any]:
    if variable.secret_key_ref is not None:
        return _from_secret(variable.name, variable.secret_key_ref)
    return {"name": variable.name, "value": variable.value or ""}


def _from_secret(name: str, reference: SecretKeyRef) -> dict[str, Any]:
    # Not optional: a missing Secret must show as such, not as a 401 of the hub after minutes.
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}}}

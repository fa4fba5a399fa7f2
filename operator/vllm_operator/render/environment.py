"""Environment variables of the engine: caches on writable paths, the hub token by reference, the user's own last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.planning.source import parse_address
from vllm_operator.render.last_words import LOGGING_FILE
from vllm_operator.render.volumes import CACHE_PATH

if TYPE_CHECKING:
    from vllm_operator.api.v1alpha1 import VLLMDeployment

_ALWAYS: Final = {
    "HOME": "/tmp",
    "HF_HOME": f"{CACHE_PATH}/huggingface",
    "VLLM_CACHE_ROOT": f"{CACHE_PATH}/vllm",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_PATH}/inductor",
    "TRITON_CACHE_DIR": f"{CACHE_PATH}/triton",
    "VLLM_LOGGING_CONFIG_PATH": LOGGING_FILE,
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def engine_environment(deployment: VLLMDeployment) -> list[dict[str, Any]]:
    """Return the variables in a stable order; a variable of the user's replaces ours of the same name."""
    model = deployment.spec.model
    found: dict[str, dict[str, Any]] = {name: {"name": name, "value": value} for name, value in _ALWAYS.items()}
    if not parse_address(model.uri).is_hub:
        found["HF_HUB_OFFLINE"] = {"name": "HF_HUB_OFFLINE", "value": "1"}
    if model.token_secret_ref is not None:
        reference = {"name": model.token_secret_ref.name, "key": model.token_secret_ref.key}
        found["HF_TOKEN"] = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}
    for variable in deployment.spec.engine.env:
        if variable.secret_key_ref is not None:
            reference = {"name": variable.secret_key_ref.name, "key": variable.secret_key_ref.key}
            found[variable.name] = {"name": variable.name, "valueFrom": {"secretKeyRef": reference}}
        else:
            found[variable.name] = {"name": variable.name, "value": variable.value or ""}
    return list(found.values())

"""Models and objects that the tests on the plane ask for."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.3-70B-Instruct"
LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"
QWEN_8B = "Qwen/Qwen3-8B"
PUBLIC_MODELS = (LLAMA_8B, LLAMA_70B, LLAMA_405B, QWEN_8B)


def config_of(model: str) -> bytes:
    """Return the config.json of a public model, from the bundled catalogue."""
    text = resources.files("vllm_operator.models").joinpath("catalogue.json").read_text()
    return json.dumps(json.loads(text)[model]["config"]).encode()


def deployment(
    namespace: str, *, name: str = "model", model: str | dict[str, Any] = LLAMA_8B, **sections: Any
) -> dict[str, Any]:
    """Return a VLLMDeployment; sections of the spec are given as keywords."""
    spec = {"model": {"uri": model} if isinstance(model, str) else model, **sections}
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }

"""What belongs to the pods of a spec: only that may restart a running model."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.spec import VLLMDeploymentSpec
from vllm_operator.runtime.pinning import pods_of_spec

MARGIN = {"headroomGb": 2}


def spec(**policy: Any) -> VLLMDeploymentSpec:
    return VLLMDeploymentSpec.model_validate({"model": {"uri": "org/model"}, "policy": policy})


@pytest.mark.parametrize("admission", ["Warn", "Off"])
@pytest.mark.parametrize("policy", [{}, MARGIN], ids=["defaults", "a margin"])
def test_another_admission_leaves_the_pods_as_they_are(admission: str, policy: dict[str, Any]) -> None:
    assert pods_of_spec(spec(**policy, admission=admission)) == pods_of_spec(spec(**policy))


@pytest.mark.parametrize("policy", [MARGIN, {"autoAdjust": "Safe"}, {"gpuMemoryUtilization": 0.8}], ids=str)
def test_a_margin_or_an_adjustment_decides_what_the_pods_are(policy: dict[str, Any]) -> None:
    assert pods_of_spec(spec(**policy)) != pods_of_spec(spec())

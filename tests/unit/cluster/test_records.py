"""What a GPU class says of itself."""

from __future__ import annotations

import pytest

from vllm_operator.cluster.records import GpuClass


@pytest.mark.parametrize(
    ("resource_name", "mig_profile", "expected"),
    [
        pytest.param("nvidia.com/gpu", None, "nvidia.com/gpu", id="device-plugin"),
        pytest.param("nvidia.com/mig-1g.10gb", "1g.10gb", "nvidia.com/mig-1g.10gb", id="device-plugin-slice"),
        pytest.param("gpu.amd.com", None, "deviceclass.resource.kubernetes.io/gpu.amd.com", id="driver"),
        pytest.param(
            "gpu.nvidia.com", "1g.10gb", "deviceclass.resource.kubernetes.io/mig.nvidia.com", id="drivers-slice"
        ),
    ],
)
def test_a_pod_requests_a_resource_that_kubernetes_knows(
    resource_name: str, mig_profile: str | None, expected: str
) -> None:
    gpu_class = GpuClass(
        vendor="nvidia", resource_name=resource_name, product=None, memory_bytes=None, mig_profile=mig_profile
    )
    assert gpu_class.requested_as == expected

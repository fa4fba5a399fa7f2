"""What the operator decides for users who do not: one place, so that a change is one line and one test."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_ENGINE_VERSION = "0.33.0"
DEFAULT_IMAGE_REPOSITORY = "vllm/vllm-openai"
IMAGE_REPOSITORY_SUFFIXES = {"amd": "-rocm"}
"""The vLLM project publishes its ROCm image beside the CUDA one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the cluster can do besides running pods, as far as a plan depends on it."""

    leader_worker_sets: bool = False
    """Whether LeaderWorkerSet is installed: only then can one replica be spread over several nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorDefaults:
    """Settings of the operator that a plan depends on."""

    engine_version: str = DEFAULT_ENGINE_VERSION
    image_repository: str = DEFAULT_IMAGE_REPOSITORY
    image: str | None = None
    """A whole image reference for every deployment that does not name one; None: the repository at its tag."""

    def image_for(self, version: str, vendor: str) -> str:
        """The image of a vLLM release for a GPU maker; the project's tags are `v` and the version."""
        return self.image or f"{self.image_repository}{IMAGE_REPOSITORY_SUFFIXES.get(vendor, '')}:v{version}"

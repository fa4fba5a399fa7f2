"""What is remembered of a VLLMDeployment from one look to the next, so that nothing is worked out twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.planning.plan import Plan
    from vllm_operator.runtime.children import ChildId
    from vllm_operator.runtime.desired import Desired
    from vllm_operator.runtime.status import Rendering


@dataclass(frozen=True, slots=True)
class Brought:
    """Where the objects of a deployment are."""

    rendering: Rendering
    pinned_hash: str | None = None
    """Hash of the plan that the pods follow, where it is not the newest plan."""
    settled: bool = False
    """Whether every object that a model is not served without was seen in the cluster as it is wanted."""


@dataclass(frozen=True, slots=True)
class Settled:
    """That everything was in place for these inputs, so that the next look need not render again."""

    inputs: tuple[object, ...]
    brought: Brought


@dataclass(frozen=True, slots=True)
class Awaited:
    """What is to be noted once the late objects are there, if the others are still the same."""

    inputs: tuple[object, ...]
    """Of `Settled`, without the objects themselves."""
    brought: Brought
    others: Mapping[ChildId, bytes]
    """Fingerprints of the objects that are in place."""


@dataclass(frozen=True, slots=True)
class Underway:
    """What was planned and rendered for objects that are not all in place yet: the next look need not do it again."""

    planned_on: tuple[object, ...]
    plan: Plan
    rendered_from: tuple[object, ...] = ()
    desired: Desired | None = None
    awaited: Awaited | None = None
    """What is left of `desired`, which is large, while only late objects are missing."""

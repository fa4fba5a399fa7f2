"""What the parts that work on one VLLMDeployment share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.cluster.state import ClusterState
    from vllm_operator.runtime.children import Children
    from vllm_operator.runtime.events import Recorder
    from vllm_operator.runtime.facts import FactsBook
    from vllm_operator.runtime.fleet import Fleet
    from vllm_operator.runtime.kube import Objects
    from vllm_operator.runtime.observed import Observed
    from vllm_operator.runtime.planner import Planner
    from vllm_operator.runtime.pods import Pods
    from vllm_operator.runtime.queue import KeyQueue
    from vllm_operator.runtime.quotas import Quotas
    from vllm_operator.runtime.resources import Resources
    from vllm_operator.runtime.turns import Turns
    from vllm_operator.runtime.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What reconciles read and write, wired once in `app`."""

    kube: Objects
    resources: Resources
    children: Children
    pods: Pods
    cluster: ClusterState
    facts: FactsBook
    fleet: Fleet
    observed: Observed
    quotas: Quotas
    doubted: Callable[[], None]
    """Called when the API server knows better than the picture of the VLLMDeployments."""
    served: Callable[[], frozenset[str]]
    """Optional kinds that the cluster has."""
    unread: Callable[[], Mapping[str, str]] = dict
    """Those of them that may not be listed any more, and why."""
    queue: KeyQueue[str]
    late_queue: KeyQueue[str]
    writer: Writer
    recorder: Recorder
    planner: Planner
    turns: Turns
    now: Callable[[], str]

"""How pods are replaced when the plan changes, and why that way.

A surge pod needs the GPUs of a whole replica beside those in use. Where no node has them free, a rollout that waits for
the new pod first waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, assert_never

from vllm_operator.api.spec import RolloutStrategy

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMDeploymentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A Deployment's strategy and the sentence that explains it."""

    strategy: dict[str, Any]
    why: str


WITH_SURGE: Final = "Auto: a new pod serves before an old one ends, because there are free GPUs for one more"
IN_PLACE: Final = "Auto: one pod at a time in place, because a surge pod would need GPUs beyond those in use"


def rollout_of(spec: VLLMDeploymentSpec, *, has_room_for_surge: bool) -> Rollout:
    """Return how the pods of a deployment are replaced."""
    strategy = spec.rollout.strategy
    match strategy:
        case RolloutStrategy.RECREATE:
            return Rollout(
                strategy={"type": "Recreate"}, why="spec.rollout.strategy: all pods end before new ones start"
            )
        case RolloutStrategy.ROLLING_UPDATE:
            return Rollout(
                strategy=_rolling(surge=1, unavailable=0),
                why="spec.rollout.strategy: each new pod needs free GPUs of its own before an old one ends",
            )
        case RolloutStrategy.AUTO if has_room_for_surge:
            return Rollout(strategy=_rolling(surge=1, unavailable=0), why=WITH_SURGE)
        case RolloutStrategy.AUTO:
            return Rollout(strategy=_rolling(surge=0, unavailable=1), why=IN_PLACE)
    assert_never(strategy)


def rollout_of_groups(spec: VLLMDeploymentSpec, *, has_room_for_surge: bool) -> Rollout:
    """Return how groups of pods are replaced: a LeaderWorkerSet can only roll, so all at once is a roll of all."""
    if spec.rollout.strategy is RolloutStrategy.RECREATE:
        why = "spec.rollout.strategy: all groups are replaced at once, none waits for another"
        return Rollout(strategy={"maxSurge": 0, "maxUnavailable": "100%"}, why=why)
    rollout = rollout_of(spec, has_room_for_surge=has_room_for_surge)
    return Rollout(strategy=rollout.strategy["rollingUpdate"], why=rollout.why)


def _rolling(*, surge: int, unavailable: int) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}

"""What the controllers behind optional objects say is wrong with them: an object that is made need not work.

An autoscaler without its metrics API scales nothing, and a route that no gateway has accepted leads nowhere. Both are
said in the status of their object, where nobody looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LONGEST_COMPLAINT: Final = 300

_OWN_CONDITIONS: Final = {
    "HorizontalPodAutoscaler": ("AbleToScale", "ScalingActive"),
    "ScaledObject": ("Ready",),
}
_PARENTS_CONDITIONS: Final = {
    "HTTPRoute": ("Accepted", "ResolvedRefs"),
    "InferencePool": ("Accepted", "ResolvedRefs"),
}
"""Conditions whose status False is a complaint: of the object itself, or of each gateway about it."""
_AT_REST: Final = frozenset({"ScalingDisabled"})
"""Reasons that are no complaint: somebody has scaled to zero."""
NEEDS_PODS: Final = frozenset({"HorizontalPodAutoscaler", "ScaledObject"})
"""Kinds that have nothing to read before a pod serves: until then their complaints say nothing."""


def complaint_of(obj: Mapping[str, Any]) -> str:
    """Return what an object's own controller says is wrong with it, with its reason; empty when nothing is."""
    kind = obj["kind"]
    status = obj.get("status") or {}
    found = [
        f"{reason}: {message}" for reason, message in _failing(status.get("conditions"), _OWN_CONDITIONS.get(kind, ()))
    ]
    for parent in status.get("parents") or ():
        name = (parent.get("parentRef") or {}).get("name", "")
        failing = _failing(parent.get("conditions"), _PARENTS_CONDITIONS.get(kind, ()))
        found += [f"Gateway {name}: {reason}: {message}" for reason, message in failing]
    return "; ".join(found)[:LONGEST_COMPLAINT]


def _failing(conditions: Any, types: Iterable[str]) -> Iterator[tuple[str, str]]:
    for condition in conditions or ():
        reason = str(condition.get("reason") or "")
        if condition.get("type") in types and condition.get("status") == "False" and reason not in _AT_REST:
            yield reason, str(condition.get("message") or "").strip()

"""Events about VLLMDeployments: they are written after the status that they tell of, and nothing waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.controlplane.waiting import wait_until

if TYPE_CHECKING:
    from tests.controlplane.client import Api


def events(api: Api, namespace: str, *reasons: str) -> list[dict[str, Any]]:
    """Return the Events of these reasons that are there now."""
    return [
        event
        for event in api.list("Event", namespace)
        if event.get("reason") in reasons and event["regarding"]["kind"] == "VLLMDeployment"
    ]


def events_told(api: Api, namespace: str, reason: str, number: int = 1) -> list[dict[str, Any]]:
    """Return the Events of a reason as soon as there are as many."""
    wait_until(lambda: len(events(api, namespace, reason)) >= number, f"{number} Events {reason}")
    return events(api, namespace, reason)

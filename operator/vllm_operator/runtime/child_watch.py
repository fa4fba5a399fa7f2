"""The watches of the kinds that the operator always makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.render.labels import MANAGED_BY_LABEL, MANAGER
from vllm_operator.runtime.feeds import ChildFeed
from vllm_operator.runtime.kube import CHILDREN
from vllm_operator.runtime.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.runtime.children import Children
    from vllm_operator.runtime.kube import Kube


def child_watchers(
    kube: Kube,
    children: Children,
    namespaces: tuple[str | None, ...],
    *,
    queue: Callable[[str], None],
    resync_seconds: float,
    jitter: Callable[[], float],
) -> list[Watcher]:
    """Return a watcher for each of these kinds in each namespace (None: all), of the objects that carry our label."""
    return [
        Watcher(
            kube,
            resource,
            ChildFeed(children, resource.kind, namespace, queue),
            keep=children.sight,
            namespace=namespace,
            labels=f"{MANAGED_BY_LABEL}={MANAGER}",
            resync_seconds=resync_seconds,
            jitter=jitter,
        )
        for namespace in namespaces
        for resource in CHILDREN
    ]

"""Kinds of objects that the operator makes only where the cluster has them: which of them it has."""

from __future__ import annotations

import logging
from itertools import groupby
from typing import TYPE_CHECKING

from vllm_operator.planning.defaults import Capabilities
from vllm_operator.render.labels import MANAGED_BY_LABEL, MANAGER
from vllm_operator.runtime.feeds import ChildFeed
from vllm_operator.runtime.kube import LEADER_WORKER_SETS, SOUGHT_CHILDREN
from vllm_operator.runtime.optional_watch import OptionalWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.runtime.children import Children
    from vllm_operator.runtime.kube import Kube

_LOGGER = logging.getLogger(__name__)


class OptionalKinds:
    """The watches of the optional kinds, and what they have found."""

    def __init__(
        self,
        kube: Kube,
        children: Children,
        namespaces: tuple[str | None, ...],
        *,
        queue: Callable[[str], None],
        changed: Callable[[], None],
        resync_seconds: float,
        jitter: Callable[[], float],
    ) -> None:
        self._changed = changed
        self.served: frozenset[str] = frozenset()
        """Kinds that can be listed, or could be before the right to it was lost, in every namespace that is watched."""
        self.unread: Mapping[str, str] = {}
        """Of which of them some may not be listed any more, and why: what is known of them is what was seen last."""
        self.watchers = tuple(
            OptionalWatcher(
                kube,
                resource,
                ChildFeed(children, resource.kind, namespace, queue),
                keep=children.sight,
                namespace=namespace,
                labels=f"{MANAGED_BY_LABEL}={MANAGER}",
                resync_seconds=resync_seconds,
                jitter=jitter,
                presence_changed=self._look,
                outlives_rights=True,
            )
            for resource in SOUGHT_CHILDREN
            for namespace in namespaces
        )

    def capabilities(self) -> Capabilities:
        """Return what the cluster can do, as far as plans depend on it."""
        return Capabilities(leader_worker_sets=LEADER_WORKER_SETS.kind in self.served)

    def _look(self) -> None:
        by_kind = groupby(self.watchers, key=lambda watcher: watcher.resource.kind)
        found = frozenset(kind for kind, watchers in by_kind if all(watcher.served for watcher in watchers))
        for kind in sorted(found ^ self.served):
            _LOGGER.info(
                "an optional kind has come" if kind in found else "an optional kind is gone", extra={"reason": kind}
            )
        unread = {watcher.resource.kind: watcher.refusal for watcher in self.watchers if watcher.refusal}
        unread = {kind: why for kind, why in unread.items() if kind in found}
        if (found, unread) != (self.served, self.unread):
            self.served, self.unread = found, unread
            self._changed()

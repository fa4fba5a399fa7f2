"""Status and Events of one VLLMDeployment: written when they differ from what was said before, and only then."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from vllm_operator.api import conditions as reasons
from vllm_operator.api.conditions import find_condition
from vllm_operator.api.status import VLLMDeploymentStatus
from vllm_operator.api.v1alpha1 import API_VERSION, KIND
from vllm_operator.runtime.desired import workload_kind
from vllm_operator.runtime.earlier_crd import ASK_AGAIN_SECONDS, EarlierCrd
from vllm_operator.runtime.events import tellings
from vllm_operator.runtime.kube import ApiError
from vllm_operator.runtime.status import as_written, canonical, status_of
from vllm_operator.runtime.writer import CONTENDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.planning.observing import Finding
    from vllm_operator.runtime.kube import Manifest
    from vllm_operator.runtime.shared import Shared
    from vllm_operator.runtime.status import Situation

_LOGGER = logging.getLogger(__name__)

GONE: Final = frozenset({404, CONTENDED})
"""Answers to a status of a resource that was deleted meanwhile, or made anew under the same name."""


def newly_found(situation: Situation) -> Iterator[Finding]:
    """Yield what of the findings the status before does not say: as a warning, or as the problem of its observation."""
    before = situation.previous
    problem = before.observed.problem if before.observed is not None else None
    for finding in situation.findings:
        said = finding.text in before.warnings if finding.warns else problem is not None and problem in finding.text
        if not said:
            yield finding


class Reporter:
    """Tells users what is true of their deployments."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._crd = EarlierCrd(time.monotonic)

    def previous(self, key: str) -> VLLMDeploymentStatus:
        """Return what was said last.

        What cannot be read (written by another version) counts as nothing: the status is ours to write.
        """
        try:
            return VLLMDeploymentStatus.model_validate_json(self._shared.resources.status_of(key))
        except ValidationError:
            return VLLMDeploymentStatus()

    async def report(self, key: str, uid: str, situation: Situation) -> None:
        """Write the status if it differs from the one that is there, and tell what is new in it.

        Raises:
            ApiError: the API server refused for now.
            Unreachable: it did not answer.
        """
        shared = self._shared
        await shared.turns.take()
        child = shared.children.workload(key, workload_kind(situation.plan))
        if child is not None and child.owner_uid == uid:
            situation = replace(situation, rollout=child.rollout)
        status = status_of(situation, now=shared.now())
        written = self._crd.left_out_of(as_written(status))
        text = canonical(written)
        if text == shared.resources.status_of(key):
            return
        for kind, reason, note in tellings(situation.previous.conditions, status.conditions):
            shared.recorder.tell(key, uid, kind, reason, note)
        for finding in newly_found(situation):
            shared.recorder.tell(key, uid, "Warning" if finding.warns else "Normal", finding.reason, finding.text)
        manifest: Manifest = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": key.partition("/")[0], "name": situation.name, "uid": uid},
            "status": written,
        }
        try:
            answer = await self._apply(manifest)
        except ApiError as error:
            if self._crd.requires_more(error):
                # The status cannot say so itself.
                text = f"the status was not accepted: {error}"
                shared.recorder.tell(key, uid, "Warning", reasons.APPLY_FAILED, text)
                shared.queue.add_after(key, ASK_AGAIN_SECONDS)
                return
            if error.status not in GONE:
                raise
            # Deleted, or made anew under the same name, or written by somebody all the time: a fresh list tells.
            shared.doubted()
            if error.status == CONTENDED:
                raise
            return
        if manifest["status"] is not written:
            text = canonical(manifest["status"])
        shared.resources.wrote_status(key, answer, manifest["status"], text)
        ready = find_condition(status.conditions, reasons.READY)
        _LOGGER.info(
            "status written",
            extra={"key": key, "generation": situation.generation, "reason": ready.reason if ready else ""},
        )

    async def _apply(self, manifest: Manifest) -> Manifest:
        """Write a status; what the CRD in the cluster turns out not to declare goes out of the manifest."""
        while True:
            try:
                return await self._shared.kube.apply_status(manifest)
            except ApiError as error:
                left = self._crd.left_out_of(manifest["status"]) if self._crd.learn(error) else None
                if left is None or left == manifest["status"]:
                    raise
                manifest["status"] = left

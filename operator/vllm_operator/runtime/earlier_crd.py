"""What the CRD in the cluster does not know yet: Helm leaves a chart's CRDs as they are when it upgrades the rest.

The API server refuses a whole status for one field that its schema does not declare. Such a field is left out, so that
an operator which is newer than its CRD says all that can be said. A field that the schema requires, and that this
release does not write, cannot be made up: that is told, and the status tried again much later.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.runtime.kube import ApiError

_LOGGER = logging.getLogger(__name__)

ASK_AGAIN_SECONDS: Final = 600.0
"""How long a field is left out before the API server is asked again: the CRD may have been applied."""

_UNDECLARED: Final = re.compile(r"\.status(\S+): field not declared in schema")
"""sigs.k8s.io/structured-merge-diff, typed.FromUnstructured: one line for each field."""
_REQUIRED: Final = re.compile(r"\bstatus(\.\S+): Required value")
"""k8s.io/apimachinery, field.Error of ErrorTypeRequired: one for each field, within the message of a 422."""
_INVALID: Final = 422
_STEP: Final = re.compile(r"\.([A-Za-z0-9_-]+)|\[[^\]]*\]")

Path = tuple[str, ...]
"""Names on the way to a field of the status; an empty one stands for each item of a list."""


class EarlierCrd:
    """Fields of the status for which the API server has refused one; `clock` tells seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[Path, float] = {}
        self._required: set[Path] = set()

    def learn(self, error: ApiError) -> bool:
        """Take from a refusal which fields are not declared; False where it is about something else."""
        paths = {_path(text) for text in _UNDECLARED.findall(str(error))}
        if not paths:
            return False
        if news := paths - self._until.keys():
            _LOGGER.warning(
                "the CRD in the cluster is older than the operator: apply the one of this release",
                extra={"reason": f"left out of each status: {', '.join(sorted(map(_text, news)))}"},
            )
        self._until |= dict.fromkeys(paths, self._clock() + ASK_AGAIN_SECONDS)
        return True

    def requires_more(self, error: ApiError) -> bool:
        """Whether a status was refused for fields that it lacks; they are told of once."""
        paths = {_path(text) for text in _REQUIRED.findall(str(error))} if error.status == _INVALID else set()
        if news := paths - self._required:
            _LOGGER.warning(
                "the CRD in the cluster requires what this release does not write: apply the CRD of this release",
                extra={"reason": f"no status is taken without: {', '.join(sorted(map(_text, news)))}"},
            )
        self._required |= paths
        return bool(paths)

    def left_out_of(self, status: dict[str, Any]) -> dict[str, Any]:
        """Return a status without them."""
        if not self._until:
            return status
        now = self._clock()
        self._until = {path: until for path, until in self._until.items() if until > now}
        for path in self._until:
            status = _without(status, path)
        return status


def _without(value: Any, path: Path) -> Any:
    step, rest = path[0], path[1:]
    if isinstance(value, list) and not step:
        return [_without(item, rest) for item in value] if rest else value
    if not isinstance(value, dict) or step not in value:
        return value
    if rest:
        return {**value, step: _without(value[step], rest)}
    return {name: inner for name, inner in value.items() if name != step}


def _path(text: str) -> Path:
    """Return the names in the API server's way of writing a path, with a dot before the first."""
    return tuple(step.group(1) or "" for step in _STEP.finditer(text))


def _text(path: Path) -> str:
    return ".".join(name or "[]" for name in path)

"""vLLM's real last words in the pod's status.

What the engine process says before it dies is about 5 kB too early in the log for FallbackToLogsOnError, which keeps
2 kB, and a server whose worker dies ends with exit code 0 and no message at all. A logging configuration that also
writes errors to the termination log keeps both, without a wrapper around the server. Where the engine wrote nothing
there (a flag that its parser refuses), the kubelet falls back to the log's end.

The configuration travels in an annotation of the pod, which the pod mounts through the downward API: it belongs to one
revision of the pods, rolls back with it, and needs no object of its own.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.render.labels import LOGGING_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.api.engine import EnvVar

MOUNT_PATH: Final = "/etc/vllm-operator"
_FILE_NAME: Final = "logging.json"
LOGGING_FILE: Final = f"{MOUNT_PATH}/{_FILE_NAME}"
TERMINATION_LOG: Final = "/dev/termination-log"

LEVEL_VARIABLE: Final = "VLLM_LOGGING_LEVEL"
"""vLLM's own variable for the level; a logging configuration would make it ineffective, so it is read here."""
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@cache
def logging_config(level: str = "INFO") -> str:
    """Return the file that VLLM_LOGGING_CONFIG_PATH names.

    vLLM's default configuration (vllm/logger.py) with one more handler, and uvicorn's loggers: vLLM hands the same
    file to uvicorn (`log_config_file` of its front-end arguments), which would otherwise fall silent.
    """
    return json.dumps(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "vllm": {
                    "class": "vllm.logging_utils.NewLineFormatter",
                    "datefmt": "%m-%d %H:%M:%S",
                    "format": "%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s",
                }
            },
            "handlers": {
                "console": {
                    "class": "logging.StreamHandler",
                    "formatter": "vllm",
                    "level": level,
                    "stream": "ext://sys.stdout",
                },
                "last_words": {
                    "class": "logging.FileHandler",
                    "formatter": "vllm",
                    "level": "ERROR",
                    "filename": TERMINATION_LOG,
                    "mode": "a",
                },
            },
            "loggers": {
                "vllm": {"handlers": ["console", "last_words"], "level": level, "propagate": False},
                "uvicorn": {"handlers": ["console"], "level": "INFO", "propagate": False},
            },
        },
        sort_keys=True,
    )


def wanted_level(variables: Iterable[EnvVar]) -> str:
    """Return the level that the user asks of vLLM, INFO when it is unset or not a level."""
    values = [(variable.value or "").upper() for variable in variables if variable.name == LEVEL_VARIABLE]
    return values[-1] if values and values[-1] in _LEVELS else "INFO"


def logging_volume() -> dict[str, Any]:
    """Return the volume source that makes a file of the pod's annotation."""
    field = {"fieldPath": f"metadata.annotations['{LOGGING_ANNOTATION}']"}
    return {"downwardAPI": {"items": [{"path": _FILE_NAME, "fieldRef": field}]}}

"""vLLM's real last words in the pod's status.

What the engine process says before it dies is about 5 kB too early in the log for FallbackToLogsOnError, which keeps 2 kB.
A logging configuration that also writes errors to the termination log keeps them, without a wrapper around the server.
"""

from __future__ import annotations

import json
from typing import Final

MOUNT_PATH: Final = "/etc/vllm-operator"
LOGGING_FILE: Final = f"{MOUNT_PATH}/logging.json"
TERMINATION_LOG: Final = "/dev/termination-log"

_LOGGING: Final = {
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
            "level": "INFO",
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
    "loggers": {"vllm": {"handlers": ["console", "last_words"], "level": "INFO", "propagate": False}},
}


def logging_config() -> str:
    """Return the file that VLLM_LOGGING_CONFIG_PATH names."""
    return json.dumps(_LOGGING, indent=2, sort_keys=True)


def config_map_name(name: str) -> str:
    """Return the name of the ConfigMap that holds it."""
    return f"{name}-engine"

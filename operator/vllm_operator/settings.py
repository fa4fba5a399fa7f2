"""Settings of the operator, from the environment: the only place that reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "VLLM_OPERATOR_"
_LISTS = ("watch_namespaces", "webhook_names")


class SettingsError(Exception):
    """A variable has a value that is not understood; the message names it."""


class Settings(BaseModel):
    """How this operator runs. Each field is the environment variable `VLLM_OPERATOR_` plus its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""
    http_host: str = "0.0.0.0"
    """Address of `/healthz`, `/readyz` and `/metrics`."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Their port."""
    webhook_host: str = "0.0.0.0"
    """Address of the admission webhook."""
    webhook_port: Annotated[int, Field(ge=0, le=65535)] = 9443
    """Its port."""
    webhook_cert_dir: Path | None = None
    """Directory with `tls.crt` and `tls.key`; unset: no webhook is served."""
    webhook_cert_secret: str | None = None
    """Secret of its namespace in which the operator keeps its own certificate; unset: somebody else keeps the files."""
    webhook_cert_days: Annotated[float, Field(gt=0, le=3650)] = 90.0
    """Days for which such a certificate is made; it is replaced after two thirds of them."""
    webhook_configuration: str | None = None
    """ValidatingWebhookConfiguration that is to trust such a certificate."""
    webhook_names: tuple[str, ...] = ()
    """Names under which the API server calls the webhook, for such a certificate."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to watch; empty: all."""
    namespace: str = "default"
    """Namespace of the operator itself."""
    pod_name: str = "vllm-operator"
    """Name of the operator's own pod, for Events and the Lease."""
    lease_name: str | None = None
    """Lease by which replicas elect the one that reconciles; unset: this is the only replica."""
    hub_enabled: bool = True
    """Whether model facts may be read from the hub."""
    hub_endpoint: str | None = None
    """Base address of the hub, from `HF_ENDPOINT`; unset: the public one."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Resources that are reconciled at the same time."""
    resync_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Time between authoritative lists of everything that is watched, give or take a fifth."""
    observe_pods: bool = True
    """Whether the metrics of the model servers are read, to compare predictions with them."""
    observations_config_map: str | None = None
    """ConfigMap of its namespace in which the operator keeps what they report; unset: nothing outlives the process."""
    engine_image: str | None = None
    """Engine image for all deployments that do not name one."""


def load_settings(environment: dict[str, str] | None = None) -> Settings:
    """Return the settings that the environment states.

    Raises:
        SettingsError: a value is not understood.
    """
    variables = dict(os.environ) if environment is None else environment
    stated: dict[str, object] = {}
    for name in Settings.model_fields:
        text = variables.get(PREFIX + name.upper())
        if text is not None and text != "":
            stated[name] = text.split(",") if name in _LISTS else text
    if endpoint := variables.get("HF_ENDPOINT"):
        stated["hub_endpoint"] = endpoint
    try:
        return Settings.model_validate(stated)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise SettingsError(f"{PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}") from None

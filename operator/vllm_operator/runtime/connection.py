"""How the operator connects to the API server: address, trust, credentials, and what it calls itself there."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import aiohttp

from vllm_operator import __version__
from vllm_operator.render.labels import MANAGER
from vllm_operator.runtime.answers import answers_without_echoes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class NoCluster(OSError):
    """Nothing says which cluster to work on."""


def load_configuration() -> Any:
    """Read the kubeconfig or, in a pod, the ServiceAccount's files.

    Raises:
        NoCluster: neither is there.
    """
    from kubernetes import config
    from kubernetes.client import Configuration

    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            text = f"no cluster: there is no ServiceAccount, and no kubeconfig ({error}); set KUBECONFIG"
            raise NoCluster(text) from None
    return configuration


def agent_of(pod_name: str) -> str:
    """Return what the API server's audit log is to call a replica."""
    return f"{MANAGER}/{__version__} {pod_name}"


def open_session(agent: str, *, is_known: Callable[[Mapping[str, Any]], bool]) -> tuple[str, aiohttp.ClientSession]:
    """Return the API server's address, and a session for Kopf with the credentials of this moment.

    `is_known`: whether an object that a watch shows as modified is no news.
    """
    configuration = load_configuration()
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=transport_security(configuration), limit=0),
        headers={"User-Agent": agent, **authorization(configuration)},
        response_class=answers_without_echoes(is_known),
        proxy=configuration.proxy,
    )
    return configuration.host, session


def transport_security(configuration: Any) -> ssl.SSLContext | bool:
    """Return how connections are secured; False without TLS."""
    if not configuration.host.startswith("https"):
        return False
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def authorization(configuration: Any) -> dict[str, str]:
    """Return the header that authenticates a request, with a token that may have been rotated since the last."""
    token = configuration.get_api_key_with_prefix("BearerToken")
    return {"Authorization": token} if token else {}

"""The webhook's TLS: files are taken into the running server when they change, and kept by us where nobody else does.

Where cert-manager or an administrator keeps the Secret, only its mounted files are watched. In the self-managed mode
the Secret is the one truth that all replicas follow, guarded by its resourceVersion:

1. who finds its certificate missing, unreadable or two thirds through its life writes a new one; of two, one wins;
2. each sees to it that the webhook configuration trusts what the Secret says;
3. only then a replica serves that certificate.

Hence no replica ever serves what the API server does not trust yet, and a rotation needs no restart.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import os
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.runtime.certificates import ServingCertificate, expiry, issue, why_renew
from vllm_operator.runtime.kube import SECRETS, VALIDATING_WEBHOOKS, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta
    from pathlib import Path

    from vllm_operator.runtime.kube import Kube, Manifest

_LOGGER = logging.getLogger(__name__)

CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
_BUNDLE_KEY: Final = "ca.crt"

FILE_CHECK_SECONDS: Final = 5.0
"""The kubelet takes up to a minute to renew a mounted Secret; a mounted file gives no event worth waiting for."""
SECRET_CHECK_SECONDS: Final = 60.0
CHECKS_IN_A_LIFE: Final = 60
"""A certificate that lives for seconds, as in a test, is looked at more often."""
TRUST_SPREADS_SECONDS: Final = 2.0
"""Time that every API server gets to take a changed webhook configuration into account."""
_RETRY_SECONDS: Final = 1.0


class ServedCertificate:
    """The certificate that the webhook serves, taken from `tls.crt` and `tls.key` of a directory whenever they change.

    A running server keeps its socket and its connections: new handshakes get the new certificate.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.expires_at: datetime | None = None
        """When what is served ends."""
        self._digest = b""

    def load(self) -> bool:
        """Serve what the files hold; whether that is something new.

        Raises:
            OSError, ValueError: they are missing, half written, or not a pair (`ssl.SSLError` is an OSError).
        """
        certificate, key = self.directory / CERTIFICATE_FILE, self.directory / KEY_FILE
        text = certificate.read_bytes()
        digest = hashlib.sha256(text + key.read_bytes()).digest()
        if digest == self._digest:
            return False
        # A pair that does not match would leave the context of the running server without a key.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
        self.context.load_cert_chain(certificate, key)
        self._digest, self.expires_at = digest, expiry(text)
        return True

    async def run(self) -> None:
        """Follow the files until cancelled; what cannot be loaded leaves the old certificate in service."""
        while True:
            await asyncio.sleep(FILE_CHECK_SECONDS)
            try:
                if self.load():
                    _LOGGER.info("the webhook serves a new certificate", extra={"reason": f"until {self.expires_at}"})
            except (OSError, ValueError) as error:
                _LOGGER.warning("the webhook's new certificate cannot be used", extra={"reason": str(error)})


@dataclass
class CertificateKeeper:
    """Keeps the Secret of the webhook's certificate, the API server's trust in it, and the files of one replica."""

    kube: Kube
    namespace: str
    secret: str
    """Name of the Secret; it must exist, so that no right to create Secrets is needed."""
    configuration: str
    """Name of the ValidatingWebhookConfiguration."""
    hosts: tuple[str, ...]
    valid: timedelta
    served: ServedCertificate
    now: Callable[[], datetime]
    jitter: Callable[[], float]
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Keep all three until cancelled."""
        rest = min(SECRET_CHECK_SECONDS, self.valid.total_seconds() / CHECKS_IN_A_LIFE)
        while True:
            try:
                await self.keep()
                self.ready.set()
            except (ApiError, Unreachable, OSError) as error:
                _LOGGER.warning("the webhook's certificate could not be looked after", extra={"reason": str(error)})
                await asyncio.sleep(_RETRY_SECONDS * self.jitter())
                continue
            await asyncio.sleep(rest * self.jitter())

    async def keep(self) -> None:
        """Renew the certificate if it is time, have it trusted, serve it.

        Raises:
            ApiError, Unreachable: the Secret or the webhook configuration could not be read or written.
            OSError: the files could not be written.
        """
        certificate = await self._current()
        if await self._trust(certificate.bundle) and self.ready.is_set():
            await asyncio.sleep(TRUST_SPREADS_SECONDS)
        self._write(certificate)

    async def _current(self) -> ServingCertificate:
        """Return what the Secret holds, renewed where it must be."""
        while True:
            secret = await self.kube.get(SECRETS, self.namespace, self.secret)
            held = _certificate(secret)
            reason = why_renew(held, self.hosts, self.now())
            if reason is None:
                return held
            fresh = issue(self.hosts, valid=self.valid, now=self.now(), trusted=held.bundle)
            secret["data"] = {**(secret.get("data") or {}), **_data(fresh)}
            try:
                await self.kube.update(SECRETS, self.namespace, secret)
            except ApiError as error:
                if error.status == 409:  # another replica was faster: its certificate is the one
                    continue
                raise
            _LOGGER.info("the webhook has a new certificate", extra={"reason": reason})
            return fresh

    async def _trust(self, bundle: bytes) -> bool:
        """Have the API server trust a bundle; whether it had to be told."""
        text = base64.b64encode(bundle).decode()
        while True:
            configuration = await self.kube.get(VALIDATING_WEBHOOKS, None, self.configuration)
            clients = [webhook["clientConfig"] for webhook in configuration.get("webhooks") or []]
            if all(client.get("caBundle") == text for client in clients):
                return False
            for client in clients:
                client["caBundle"] = text
            try:
                await self.kube.update(VALIDATING_WEBHOOKS, None, configuration)
            except ApiError as error:
                if error.status == 409:
                    continue
                raise
            return True

    def _write(self, certificate: ServingCertificate) -> None:
        directory = self.served.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in ((KEY_FILE, certificate.key), (CERTIFICATE_FILE, certificate.certificate)):
            _replace(directory / name, text)
        self.served.load()


def _certificate(secret: Manifest) -> ServingCertificate:
    data = secret.get("data") or {}
    return ServingCertificate(
        bundle=_decoded(data, _BUNDLE_KEY), certificate=_decoded(data, CERTIFICATE_FILE), key=_decoded(data, KEY_FILE)
    )


def _decoded(data: dict[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(data.get(key) or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _data(certificate: ServingCertificate) -> dict[str, str]:
    texts = {_BUNDLE_KEY: certificate.bundle, CERTIFICATE_FILE: certificate.certificate, KEY_FILE: certificate.key}
    return {key: base64.b64encode(text).decode() for key, text in texts.items()}


def _replace(path: Path, text: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    part.replace(path)

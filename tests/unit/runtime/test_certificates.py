"""The webhook's own certificates, judged by the TLS library that would serve them."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from vllm_operator.runtime.certificates import MOST_TRUSTED, ServingCertificate, expiry, issue, why_renew

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC).replace(microsecond=0)
VALID = timedelta(days=90)
HOSTS = ("webhook.ns.svc", "webhook.ns.svc.cluster.local", "127.0.0.1")


@pytest.fixture(scope="module")
def held() -> ServingCertificate:
    return issue(HOSTS, valid=VALID, now=NOW)


def handshake(directory: Path, served: ServingCertificate, trusted: bytes, host: str) -> None:
    """Connect a client that trusts a bundle to a server with a certificate, in memory."""
    (directory / "tls.crt").write_bytes(served.certificate)
    (directory / "tls.key").write_bytes(served.key)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    client_context = ssl.create_default_context(cadata=trusted.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    pending = [client, server]
    while pending:
        side = pending.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pending.append(side)


@pytest.mark.parametrize("host", HOSTS)
def test_who_trusts_the_bundle_can_call_each_name(tmp_path: Path, held: ServingCertificate, host: str) -> None:
    handshake(tmp_path, held, held.bundle, host)


def test_another_name_is_refused(tmp_path: Path, held: ServingCertificate) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, held, held.bundle, "somebody.else.svc")


def test_a_renewed_bundle_trusts_the_certificate_before_it_and_its_own(
    tmp_path: Path, held: ServingCertificate
) -> None:
    renewed = issue(HOSTS, valid=VALID, now=NOW, trusted=held.bundle)

    handshake(tmp_path, held, renewed.bundle, HOSTS[0])
    handshake(tmp_path, renewed, renewed.bundle, HOSTS[0])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, renewed, held.bundle, HOSTS[0])


def test_an_authority_that_has_ended_is_dropped_and_the_bundle_stays_small(held: ServingCertificate) -> None:
    after = issue(HOSTS, valid=VALID, now=NOW + VALID + timedelta(days=1), trusted=held.bundle)
    assert len(x509.load_pem_x509_certificates(after.bundle)) == 1

    often = held
    for _ in range(3 * MOST_TRUSTED):
        often = issue(HOSTS, valid=VALID, now=NOW, trusted=often.bundle)
    assert len(x509.load_pem_x509_certificates(often.bundle)) == MOST_TRUSTED


def test_it_is_renewed_after_two_thirds_of_its_life(held: ServingCertificate) -> None:
    assert expiry(held.certificate) == NOW + VALID
    assert why_renew(held, HOSTS, NOW) is None
    assert why_renew(held, HOSTS, NOW + VALID * 0.66) is None
    assert "ends at" in (why_renew(held, HOSTS, NOW + VALID * 0.67) or "")


def test_it_is_renewed_when_a_name_is_missing(held: ServingCertificate) -> None:
    assert "not for" in (why_renew(held, (*HOSTS, "renamed.ns.svc"), NOW) or "")


@pytest.mark.parametrize(
    "damage",
    [
        {"certificate": b""},
        {"certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        {"key": b"nonsense"},
        {"bundle": b""},
        {"bundle": b"\xff\x00"},
    ],
    ids=["none", "garbled", "no key", "no authority", "bytes"],
)
def test_what_cannot_be_read_is_replaced(held: ServingCertificate, damage: dict[str, bytes]) -> None:
    damaged = replace(held, **damage)
    assert why_renew(damaged, HOSTS, NOW) is not None
    assert why_renew(issue(HOSTS, valid=VALID, now=NOW, trusted=damaged.bundle), HOSTS, NOW) is None


def test_a_key_or_an_authority_of_another_certificate_is_replaced(held: ServingCertificate) -> None:
    other = issue(HOSTS, valid=VALID, now=NOW)
    assert why_renew(replace(held, key=other.key), HOSTS, NOW) == "its key is another's"
    assert why_renew(replace(held, bundle=other.bundle), HOSTS, NOW) is not None

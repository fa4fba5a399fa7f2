"""Serving certificates of the webhook: made, judged and read; no clock, no cluster.

Each certificate has an authority of its own, whose key is thrown away at once: nobody, not even a reader of the Secret,
can sign another one. What the API server trusts is a bundle of the newest authority and those before it that are still
valid, so that replicas which serve an older certificate stay trusted until they have taken the new one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the API server's clock may be behind ours."""
RENEWED_AFTER: Final = 2 / 3
"""Part of its life after which a certificate is replaced: cert-manager's default."""
MOST_TRUSTED: Final = 4
"""Authorities in a bundle at most, however often somebody has certificates made."""
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for bytes that are no certificate, no key, or none that it knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingCertificate:
    """A certificate, its key, and whom to trust; all PEM."""

    bundle: bytes
    """Authorities, newest first: what the API server is told to trust."""
    certificate: bytes
    key: bytes


def issue(hosts: Sequence[str], *, valid: timedelta, now: datetime, trusted: bytes = b"") -> ServingCertificate:
    """Make a certificate for `hosts` (names or addresses), signed by an authority made for it.

    `trusted` is the bundle until now (PEM, may be unreadable): what of it is still valid stays trusted.
    """
    ends = now + valid
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("vllm-operator webhook authority")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder(_name("vllm-operator webhook"), authority_name, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    still_trusted = [old for old in _certificates(trusted) if old.not_valid_after_utc > now][: MOST_TRUSTED - 1]
    return ServingCertificate(
        bundle=b"".join(_pem(entry) for entry in (authority, *still_trusted)),
        certificate=_pem(certificate),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def why_renew(held: ServingCertificate, hosts: Sequence[str], now: datetime) -> str | None:
    """Return why a certificate must be replaced now; None while it need not."""
    try:
        certificate = x509.load_pem_x509_certificate(held.certificate)
        key = serialization.load_pem_private_key(held.key, password=None)
        authority = next(iter(_certificates(held.bundle)), None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if authority is None:
            return "its authority is missing"
        certificate.verify_directly_issued_by(authority)
    except _UNREADABLE as error:
        return f"it cannot be read: {type(error).__name__}"
    if key.public_key() != certificate.public_key():
        return "its key is another's"
    if any(_general_name(host) not in names for host in hosts):
        return f"it is not for {', '.join(hosts)}"
    begin, end = certificate.not_valid_before_utc + CLOCK_SKEW, certificate.not_valid_after_utc
    if now >= begin + (end - begin) * RENEWED_AFTER:
        return f"it ends at {end:%Y-%m-%dT%H:%M:%SZ}"
    return None


def expiry(certificate: bytes) -> datetime:
    """Return when a certificate (PEM; the first, where a chain follows) ends.

    Raises:
        ValueError: it is none.
    """
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def _certificates(bundle: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return []


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(ends)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

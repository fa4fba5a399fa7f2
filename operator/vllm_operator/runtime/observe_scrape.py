"""One look at a pod's `/metrics`: bounded in time and size, at that address and nowhere else.

What answers there is not trusted. No redirect is followed, no proxy asked, nothing decompressed, no cookie kept; an
answer that is late, too long or of another type is given up with a reason.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

import aiohttp

from vllm_operator.models.engine_report import ReportError, read_reports

if TYPE_CHECKING:
    from types import TracebackType

    from vllm_operator.models.engine_report import EngineReport

METRICS_PATH: Final = "/metrics"
CONNECT_SECONDS: Final = 1.0
"""Within a cluster a pod that can be reached answers a SYN in milliseconds; one that cannot must not hold others up."""
TOTAL_SECONDS: Final = 3.0
MOST_BYTES: Final = 2**20
"""A server with all of vLLM's histograms and eight engines sends some 300 KiB."""
_CHUNK_BYTES: Final = 2**16
_TYPES: Final = ("text/plain", "application/openmetrics-text")
_METADATA_SERVICES: Final = frozenset(
    ipaddress.ip_address(address)
    for address in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
"""Where clouds answer with credentials, as far as these are not link-local: Alibaba, Azure, Oracle, AWS, Google."""


class ScrapeError(Exception):
    """There is no report of this pod; `fault` is one word for metrics."""

    def __init__(self, fault: str, message: str, *, answered: bool) -> None:
        self.fault = fault
        self.answered = answered
        """Whether the pod sent something as its metrics, so that trying again is unlikely to help."""
        super().__init__(message)


def pod_address(text: str) -> str | None:
    """Return an address that a pod can have, in its canonical form; None for every other text.

    A pod's status is written by its node. One that was taken over must not be able to turn the operator, which other
    firewalls let pass, against itself, its host or a cloud's metadata service.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        if (mapped := address.ipv4_mapped or address.sixtofour) is not None:
            return pod_address(str(mapped))
    unfit = (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or address in _METADATA_SERVICES
    )
    return None if unfit else str(address)


class Scraper:
    """Reads pods; use it as an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Scraper:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"},
            read_bufsize=_CHUNK_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, address: str, port: int) -> tuple[EngineReport, ...]:
        """Return what the engines of the server at this address report.

        Raises:
            ScrapeError: it does not answer in time, or what it answers is not used.
        """
        try:
            host = f"[{address}]" if ":" in address else address
            return read_reports(await self._text(f"http://{host}:{port}{METRICS_PATH}"))
        except ReportError as error:
            raise ScrapeError(error.fault.value, str(error), answered=error.fault != "NotReady") from None
        except TimeoutError:
            text = f"{METRICS_PATH} did not answer within {TOTAL_SECONDS:g} s"
            raise ScrapeError("Timeout", text, answered=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = f"{METRICS_PATH} cannot be read: {type(error).__name__}"
            raise ScrapeError("Unreachable", text, answered=False) from None

    async def _text(self, url: str) -> str:
        assert self._session is not None, "use Scraper as an async context manager"
        async with self._session.get(url, allow_redirects=False) as response:
            _check(response)
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > MOST_BYTES:
                    text = f"{METRICS_PATH} is longer than {MOST_BYTES} bytes"
                    raise ScrapeError("TooLarge", text, answered=True)
            return body.decode("utf-8", errors="replace")


def _check(response: aiohttp.ClientResponse) -> None:
    """Refuse what is not a plain page of metrics, before its body is read."""
    if response.status in (301, 302, 303, 307, 308):
        raise ScrapeError("Redirect", f"{METRICS_PATH} redirects, which is not followed", answered=True)
    if response.status != 200:
        text = f"{METRICS_PATH} answers with HTTP {response.status}"
        raise ScrapeError("HttpError", text, answered=False)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        text = f"{METRICS_PATH} is encoded as {encoding[:40]!r}, though plain text was asked for"
        raise ScrapeError("Encoded", text, answered=True)
    if response.content_type not in _TYPES:
        text = f"{METRICS_PATH} is {response.content_type[:80]!r}, not Prometheus' text format"
        raise ScrapeError("WrongType", text, answered=True)

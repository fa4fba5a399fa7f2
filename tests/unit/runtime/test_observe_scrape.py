"""One look at a pod: real HTTP servers on this machine that answer well, badly, slowly, or with something else."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.runtime.observe_scrape import MOST_BYTES, TOTAL_SECONDS, ScrapeError, Scraper, pod_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

GOOD = b'vllm:cache_config_info{block_size="16",kv_cache_size_tokens="16000",num_gpu_blocks="1000"} 1.0\n'
PLAIN = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"


@asynccontextmanager
async def served(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that gives every request this answer; its port, and the requests that it got."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            await answer(writer)
        except ConnectionError:
            pass  # who asked has given up
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], requests


def plainly(
    head: bytes, body: bytes = GOOD, status: bytes = b"200 OK"
) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """An answer that is sent at once."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + status + b"\r\n" + head + b"Connection: close\r\n\r\n" + body)
        await writer.drain()

    return answer


async def _fault(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> ScrapeError:
    async with served(answer) as (port, _), Scraper() as scraper:
        with pytest.raises(ScrapeError) as caught:
            await scraper.read("127.0.0.1", port)
    return caught.value


def test_a_server_is_asked_once_in_plain_text_and_without_anything_of_ours() -> None:
    async def look() -> list[bytes]:
        async with served(plainly(PLAIN)) as (port, requests), Scraper() as scraper:
            (report,) = await scraper.read("127.0.0.1", port)
        assert report.kv_cache_tokens == 16_000
        return requests

    (request,) = asyncio.run(look())
    assert request.startswith(b"GET /metrics HTTP/1.1\r\n")
    assert b"Accept-Encoding: identity" in request
    for header in (b"Authorization", b"Cookie"):
        assert header not in request


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def look() -> int | None:
        async with served(plainly(PLAIN)) as (port, _), Scraper() as scraper:
            return (await scraper.read("127.0.0.1", port))[0].kv_cache_tokens

    assert asyncio.run(look()) == 16_000


REFUSED: dict[str, tuple[Callable[[asyncio.StreamWriter], Awaitable[None]], str, bool]] = {
    "a web page": (plainly(b"Content-Type: text/html\r\n"), "WrongType", True),
    "no type": (plainly(b""), "WrongType", True),
    "gzip": (plainly(PLAIN + b"Content-Encoding: gzip\r\n", gzip.compress(GOOD)), "Encoded", True),
    "not allowed": (plainly(PLAIN, status=b"403 Forbidden"), "HttpError", False),
    "not yet": (plainly(PLAIN, status=b"503 Service Unavailable"), "HttpError", False),
    "not started": (plainly(PLAIN, b"up 1\n"), "NotReady", False),
    "no figures": (plainly(PLAIN, GOOD.replace(b"1000", b"NaN")), "Absurd", True),
    "binary": (plainly(PLAIN, b"vllm:cache_config_info{\xff\xfe\x00"), "Malformed", True),
    "no HTTP": (plainly(b"\x00\x01 :\r\n"), "Unreachable", False),
    "cut off": (plainly(PLAIN + b"Content-Length: 5000\r\n"), "Unreachable", False),
}


@pytest.mark.parametrize(("answer", "fault", "answered"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_page_of_metrics_is_refused_with_a_word_for_it(
    answer: Callable[[asyncio.StreamWriter], Awaitable[None]], fault: str, answered: bool
) -> None:
    error = asyncio.run(_fault(answer))
    assert (error.fault, error.answered) == (fault, answered)
    assert len(str(error)) < 300


def test_a_redirect_is_followed_nowhere() -> None:
    async def look() -> list[bytes]:
        async with served(plainly(PLAIN)) as (elsewhere, requests):
            location = f"Location: http://127.0.0.1:{elsewhere}/metrics\r\n".encode()
            error = await _fault(plainly(PLAIN + location, status=b"302 Found"))
            assert error.fault == "Redirect"
        return requests

    assert asyncio.run(look()) == []


def test_an_endless_answer_is_given_up_when_it_is_too_long() -> None:
    sent = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + PLAIN + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"#" * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000

    assert asyncio.run(_fault(answer)).fault == "TooLarge"
    assert sent < 16 * MOST_BYTES, "what is not read backs up and ends with the connection"


def test_an_answer_that_only_drips_is_given_up_in_time() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + PLAIN + b"\r\n")
        for character in GOOD * 100:
            writer.write(bytes([character]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async def timed() -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert (await _fault(answer)).fault == "Timeout"
        return loop.time() - begun

    assert asyncio.run(timed()) < TOTAL_SECONDS + 1


def test_nobody_at_that_address_is_no_fault_of_ours() -> None:
    async def look() -> ScrapeError:
        async with served(plainly(PLAIN)) as (port, _):
            pass
        async with Scraper() as scraper:
            with pytest.raises(ScrapeError) as caught:
                await scraper.read("127.0.0.1", port)
        return caught.value

    error = asyncio.run(look())
    assert (error.fault, error.answered) == ("Unreachable", False)


@pytest.mark.parametrize("address", ["10.244.0.7", "192.168.1.9", "172.16.0.1", "100.64.3.2", "203.0.113.5", "fd12::7"])
def test_what_a_network_gives_its_pods_is_an_address(address: str) -> None:
    assert pod_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        "10.0.0.1/24",
        "10.0.0.1:80",
        "10.0.0.1@evil.example.com",
        "010.0.0.1",
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "fe80::1",
        "fe80::1%eth0",
        "fd12::7%eth0",
        "fd00:ec2::254",
        "ff02::1",
    ],
)
def test_the_operator_its_host_and_metadata_services_are_never_asked(address: str) -> None:
    assert pod_address(address) is None


@given(st.one_of(st.text(max_size=60), st.ip_addresses().map(str)))
def test_an_address_comes_back_in_a_form_that_is_one(text: str) -> None:
    found = pod_address(text)
    assert found is None or pod_address(found) == found

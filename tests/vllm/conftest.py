from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.vllm.install import NEWEST, VERSION, engine_python, newest_parser

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RealParser:
    """The command line parser of one vLLM release."""

    version: str
    python: Path
    packages: Path | None = None
    """Directory to put on the Python path."""


@pytest.fixture(scope="session")
def engine() -> Path:
    """The Python that vLLM's CPU build is installed for."""
    return engine_python()


@pytest.fixture(scope="session", params=[VERSION, NEWEST])
def parser(request: pytest.FixtureRequest) -> RealParser:
    """The parser of each release whose flags are known."""
    packages = newest_parser() if request.param == NEWEST else None
    return RealParser(version=request.param, python=engine_python(), packages=packages)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.vllm.install import engine_python

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def engine() -> Path:
    """The Python that vLLM is installed for."""
    return engine_python()

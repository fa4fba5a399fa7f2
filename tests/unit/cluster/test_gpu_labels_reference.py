"""The reference page says what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PRINT = "import gpu_labels_reference as g, sys; sys.stdout.write(g.reference())"


def test_the_page_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT], cwd=ROOT / "scripts", capture_output=True, check=True, timeout=60
    )
    page = (ROOT / "docs" / "reference" / "gpu-labels.md").read_text(encoding="utf-8")
    assert done.stdout.decode("utf-8") == page, "run: python scripts/gpu_labels_reference.py"

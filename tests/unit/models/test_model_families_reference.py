from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "model_families_reference.py"


def test_reference_page_is_what_the_models_give() -> None:
    spec = importlib.util.spec_from_file_location("model_families_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page(), "run scripts/model_families_reference.py"

#!/usr/bin/env python3
"""Makes the bundled catalogue of model facts from the config files in `scripts/catalogue/`.

    scripts/make_catalogue.py            writes operator/vllm_operator/models/catalogue.json
    scripts/make_catalogue.py --check    exits 1 when that file is not what the configs say
    scripts/make_catalogue.py --fetch org/name [--revision REV]
                                         adds or refreshes one model from the Hub, then writes the catalogue

`scripts/catalogue/<org>__<name>/config.json` holds the fields of a model's public config that describe its shape;
an empty file `HAS_LM_HEAD` beside it says that the checkpoint ships an output head of its own.
`scripts/catalogue/revisions.json` names the commit for which a config was verified; a model that is not listed there
has the revision null in the catalogue.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "catalogue"
TARGET = ROOT.parent / "operator" / "vllm_operator" / "models" / "catalogue.json"

# Fields that say nothing of memory, limits or how to serve.
DROPPED = frozenset(
    {
        "_name_or_path",
        "attention_dropout",
        "bos_token_id",
        "embd_pdrop",
        "eos_token_id",
        "hidden_dropout",
        "id2label",
        "initializer_range",
        "label2id",
        "output_router_logits",
        "pad_token_id",
        "resid_pdrop",
        "router_aux_loss_coef",
        "transformers_version",
        "use_cache",
    }
)


def trimmed(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the fields that planning never reads."""
    kept: dict[str, Any] = {}
    for name, value in sorted(config.items()):
        if name in DROPPED:
            continue
        nested = isinstance(value, dict) and name.endswith("_config") and name != "quantization_config"
        kept[name] = trimmed(value) if nested else value
    return kept


def catalogue() -> str:
    """The catalogue's text, one model a line."""
    revisions = json.loads((SOURCES / "revisions.json").read_text())
    lines = []
    for directory in sorted(path for path in SOURCES.iterdir() if path.is_dir()):
        uri = directory.name.replace("__", "/", 1)
        entry: dict[str, Any] = {"revision": revisions.get(uri)}
        if (directory / "HAS_LM_HEAD").exists():
            entry["has_lm_head"] = True
        entry["config"] = trimmed(json.loads((directory / "config.json").read_text()))
        lines.append(f"{json.dumps(uri)}: {json.dumps(entry, separators=(',', ':'))}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def fetch(uri: str, revision: str | None) -> None:
    """Reads a model's config from the Hub and records the commit that it came from."""
    from huggingface_hub import HfApi, hf_hub_download

    sha = HfApi().model_info(uri, revision=revision, timeout=30).sha
    config = json.loads(Path(hf_hub_download(uri, "config.json", revision=sha)).read_text())
    directory = SOURCES / uri.replace("/", "__")
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(trimmed(config), indent=1) + "\n")
    revisions = json.loads((SOURCES / "revisions.json").read_text())
    revisions[uri] = sha
    (SOURCES / "revisions.json").write_text(json.dumps(revisions, indent=1, sort_keys=True) + "\n")


def main() -> int:
    """Runs the command line; the exit code is 1 when --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--fetch", metavar="ORG/NAME")
    parser.add_argument("--revision")
    arguments = parser.parse_args()
    if arguments.fetch:
        fetch(arguments.fetch, arguments.revision)
    text = catalogue()
    if arguments.check:
        return 0 if TARGET.exists() and TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

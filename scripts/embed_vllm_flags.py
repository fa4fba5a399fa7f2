"""Write the compact table of vLLM's flags that the planner checks its own command lines against.

    embed_vllm_flags.py FLAGS.json PARSERS.json OUT.json

FLAGS.json lists the actions of the real `vllm serve` parser (flags, dest, type, choices, nargs, default), read from
`vllm.entrypoints.common.cli_args.make_arg_parser`. OUT.json keeps what decides whether a command line parses:
for each long flag its number of values ("0", "1", "?" or "+"), its kind ("int", "float", "json", "str") and choices;
aliases point to the same entry. PARSERS.json lists that release's `tool_parsers` and `reasoning_parsers`, the keys of
`_TOOL_PARSERS_TO_REGISTER` (vllm/tool_parsers/__init__.py) and `_REASONING_PARSERS_TO_REGISTER`
(vllm/reasoning/__init__.py): the flags take any name, because plugins may add some, but one that nobody registers ends
the start. Run it for each release and add the file to `planning/data/`.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

KINDS = {
    "int": "int",
    "float": "float",
    "loads": "json",
    "parse_dataclass": "json",
    "human_readable_int": "size",
    "human_readable_int_or_auto": "size-or-auto",
}


def kind_of(type_name: str | None) -> str:
    """Name what a value must look like; a type that accepts several shapes is a plain string."""
    if type_name is None:
        return "str"
    inner = type_name.rpartition("<locals>.")[2]
    inner = inner.rpartition("[")[2].removesuffix("]") if "[" in inner else inner
    return KINDS.get(inner, "str")


def compact(action: dict[str, Any]) -> dict[str, Any]:
    """Keep arity, kind and choices of one parser action."""
    nargs = action["nargs"]
    entry: dict[str, Any] = {"values": "1" if nargs is None else str(nargs)}
    if entry["values"] != "0":
        entry["kind"] = kind_of(action["type"])
        if action["choices"]:
            entry["choices"] = [str(choice) for choice in action["choices"]]
    if action.get("deprecated"):
        entry["deprecated"] = True
    return entry


def table(document: dict[str, Any]) -> dict[str, Any]:
    """Return the embedded form of one release's flags."""
    flags = {
        name.removeprefix("--"): compact(action)
        for action in document["flags"]
        for name in action["flags"]
        if name.startswith("--") and name != "--help"
    }
    return {"vllm": document["vllm_version"], "flags": dict(sorted(flags.items()))}


def main() -> None:
    """Read two lists, write one table."""
    source, registries, target = map(pathlib.Path, sys.argv[1:4])
    parsers = json.loads(registries.read_text(encoding="utf-8"))
    embedded = table(json.loads(source.read_text(encoding="utf-8")))
    lines = [f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in embedded["flags"].items()]
    body = ",\n".join(lines)
    head = [
        f'  "vllm": {json.dumps(embedded["vllm"])}',
        *(f'  "{kind}": {json.dumps(sorted(parsers[kind]))}' for kind in ("tool_parsers", "reasoning_parsers")),
    ]
    target.write_text("{\n" + ",\n".join(head) + f',\n  "flags": {{\n{body}\n  }}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()

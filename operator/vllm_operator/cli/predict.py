"""`vllm-operator predict`: one JSON line in, one out: what vLLM would report for that model, GPU and flag set."""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.predict import Answer
    from vllm_operator.models.run_row import RunRow

_ALLOCATIONS_PER_COLLECTION = 1_000_000

EXIT_READ = 0
EXIT_UNREADABLE = 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the subcommand."""
    parser = subparsers.add_parser(
        "predict",
        help="predict what vLLM reports on start",
        description="Reads one run a line (JSON) and prints one answer a line: weights, activation peak, CUDA graphs, "
        "KV cache with an 80 % interval, blocks, tokens, concurrency, and whether the start survives.",
    )
    parser.add_argument("runs", metavar="RUNS.jsonl", help="file of runs, '-' for standard input")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Answers every row; 2 when the file cannot be read, 0 otherwise. A row without an answer has an `error`."""
    try:
        lines, folder = _lines(args.runs)
    except (OSError, UnicodeDecodeError) as error:
        print(f"predict: {args.runs} cannot be read: {error}", file=sys.stderr)
        return EXIT_UNREADABLE
    encode = json.JSONEncoder(check_circular=False).encode
    # NB: what is remembered between rows is large and holds no cycles; walking it over and over takes a tenth of a run.
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)
    sys.stdout.writelines(f"{encode(answer)}\n" for answer in answers(lines, folder=folder))
    return EXIT_READ


def answers(lines: Iterable[str], *, folder: Path) -> Iterator[Answer]:
    """One answer for each line that is not blank. `config_dir` is relative to `folder`."""
    from pydantic import ValidationError

    from vllm_operator.models.errors import ModelError
    from vllm_operator.models.predict import answer
    from vllm_operator.models.run_row import RowError, RunRow

    known = _KnownModels(folder)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = RunRow.model_validate_json(line)
        except ValidationError as error:
            yield {"id": _id_of(line), "error": f"line {number}: {_brief(error.errors()[0])}"}
            continue
        try:
            found = answer(row, known.facts_of(row))
        except (RowError, ModelError) as error:
            found = {"id": row.id, "error": f"line {number}: {error}"}
        yield found


def _lines(name: str) -> tuple[list[str], Path]:
    if name == "-":
        return sys.stdin.read().split("\n"), Path()
    path = Path(name)
    # NB: not splitlines, which also cuts at characters that JSON leaves alone inside a string.
    return path.read_text(encoding="utf-8").split("\n"), path.parent


def _id_of(line: str) -> object:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row.get("id") if isinstance(row, dict) else None


def _brief(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])


class _KnownModels:
    """Facts by where a row says they are, each read once for the whole file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_place: dict[tuple[str, int | None], ModelFacts] = {}

    def facts_of(self, row: RunRow) -> ModelFacts:
        """The facts of a row's model. Raises `RowError` when the row names none, `ModelError` when they are no good."""
        place = self._place(row)
        facts = self._by_place.get((place, row.checkpoint_bytes))
        if facts is None:
            facts = _with_size(self._read(row), row.checkpoint_bytes)
            self._by_place[place, row.checkpoint_bytes] = facts
        return facts

    def _place(self, row: RunRow) -> str:
        if row.config is not None:
            return json.dumps(row.config, sort_keys=True)
        return row.config_dir or f"hf://{row.model}"

    def _read(self, row: RunRow) -> ModelFacts:
        from vllm_operator.models.catalogue import lookup
        from vllm_operator.models.parse import parse_model
        from vllm_operator.models.run_row import RowError
        from vllm_operator.models.source.directory import load_directory

        if row.config is not None:
            return parse_model(row.config)
        if row.config_dir is not None:
            return load_directory(self._folder / row.config_dir)
        facts = lookup(row.model) if row.model else None
        if facts is None:
            message = f"no facts of model {row.model!r}: give config_dir or config (the bundled catalogue lacks it)"
            raise RowError(message)
        return facts


def _with_size(facts: ModelFacts, total_bytes: int | None) -> ModelFacts:
    """The facts with a stated size of the weight files, where reading them gave none."""
    from vllm_operator.models.facts import CheckpointFacts

    known = facts.checkpoint or CheckpointFacts()
    if total_bytes is None or known.total_bytes is not None:
        return facts
    return dataclasses.replace(facts, checkpoint=dataclasses.replace(known, total_bytes=total_bytes))

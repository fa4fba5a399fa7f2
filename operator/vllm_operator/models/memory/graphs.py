"""Which batch sizes a start captures as CUDA graphs, from what it is asked to.

Source: vllm/config/vllm.py `_set_cudagraph_sizes`@0.33: 1, 2, 4, every 8 below 256, every 16 up to twice
`max_num_seqs`, at most 512 (1024 on Blackwell's data center cards, and for gpt-oss by models/config.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from vllm_operator.models.gpu_generation import capability_of, is_datacenter_blackwell
from vllm_operator.models.memory.terms import captured_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.facts import Device, ModelFacts
    from vllm_operator.models.settings import ResolvedSettings

_LARGEST: Final = 512
_LARGEST_ON_BLACKWELL: Final = 1024
_LARGEST_STATED: Final = 16384
_BLACKWELL_SINCE: Final = (0, 21, 0)
_WIDE_FAMILIES: Final = frozenset({"gpt_oss"})
_WIDE_SINCE: Final = (0, 11, 0)


def graph_sizes(facts: ModelFacts, resolved: ResolvedSettings, device: Device) -> int:
    """How many sizes are captured; 0 without graphs."""
    flags = resolved.flags
    compilation = _compilation(flags)
    if resolved.enforce_eager or _turns_graphs_off(flags, compilation):
        return 0
    stated = compilation.get("cudagraph_capture_sizes", flags.get("cudagraph_capture_sizes"))
    if isinstance(stated, list) and stated:
        return min(len(stated), _LARGEST_STATED)
    largest = compilation.get("max_cudagraph_capture_size", flags.get("max_cudagraph_capture_size"))
    if isinstance(largest, int) and not isinstance(largest, bool):
        return captured_sizes(max(0, min(largest, _LARGEST_STATED)))
    return captured_sizes(min(2 * resolved.max_num_seqs, _limit(facts, resolved, device)))


def _limit(facts: ModelFacts, resolved: ResolvedSettings, device: Device) -> int:
    release = resolved.version.release
    if facts.model_type in _WIDE_FAMILIES and release >= _WIDE_SINCE:
        return _LARGEST_ON_BLACKWELL
    blackwell = is_datacenter_blackwell(capability_of(device)) and release >= _BLACKWELL_SINCE
    return _LARGEST_ON_BLACKWELL if blackwell else _LARGEST


def _turns_graphs_off(flags: Mapping[str, object], compilation: Mapping[str, object]) -> bool:
    mode = str(compilation.get("cudagraph_mode", "")).upper()
    level = flags.get("optimization_level", flags.get("O"))
    return mode in ("NONE", "0") or str(level) == "0"


def _compilation(flags: Mapping[str, object]) -> Mapping[str, object]:
    """`--compilation-config` as an object or as its JSON."""
    stated = flags.get("compilation_config")
    if isinstance(stated, str):
        try:
            stated = json.loads(stated)
        except ValueError:
            return {}
    return stated if isinstance(stated, dict) else {}

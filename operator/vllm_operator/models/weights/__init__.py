"""Weights of a model on one GPU, as vLLM allocates them.

`weights_by_stage` is what planning and memory prediction call. Underneath: `blueprints` says what a model is made of,
`quantization` in which format each part is stored, `ranks` what one rank holds.
"""

from __future__ import annotations

from vllm_operator.models.weights.totals import (
    Weighing,
    WeightBytes,
    parameters,
    weigh,
    weights_by_stage,
    what_weights_depend_on,
)

__all__ = ["Weighing", "WeightBytes", "parameters", "weigh", "weights_by_stage", "what_weights_depend_on"]

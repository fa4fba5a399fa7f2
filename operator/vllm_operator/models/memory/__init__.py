"""What vLLM takes of each GPU on start, keyed by its version: weights, activation peak, graphs, buffers, KV cache.

`predict_memory` is the way in. `constants` is the one table of fitted numbers, `terms` the formulas, `failure` the ways
in which a start ends, `interval` how sure all that is. No safety margin is in here: margins are the user's policy.
"""

from __future__ import annotations

from vllm_operator.models.memory.failure import StartFailure
from vllm_operator.models.memory.prediction import MemoryPrediction, predict_memory

__all__ = ["MemoryPrediction", "StartFailure", "predict_memory"]

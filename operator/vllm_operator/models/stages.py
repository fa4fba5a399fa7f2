"""Which layers a pipeline stage holds. Source: vllm/distributed/utils.py `get_pp_indices`@0.33.0."""

from __future__ import annotations


def layers_per_stage(layers: int, stages: int) -> tuple[int, ...]:
    """Return the number of layers of each stage: equal shares, the rest to the stages before the last.

    32 layers over 3 stages are 11, 11 and 10, since the last stage also holds the output head.
    """
    share, rest = divmod(layers, stages)
    counts = [share] * stages
    for place in range(2, rest + 2):
        counts[-place] += 1
    return tuple(counts)


def stage_of_layer(layers: int, stages: int) -> tuple[int, ...]:
    """Return the stage of each layer."""
    return tuple(stage for stage, count in enumerate(layers_per_stage(layers, stages)) for _ in range(count))

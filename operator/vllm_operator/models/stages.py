"""Which layers a pipeline stage holds. Source: vllm/distributed/utils.py `get_pp_indices`@0.33.0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.versions import EngineVersion

PARTITION_VARIABLE: Final = "VLLM_PP_LAYER_PARTITION"
"""Environment variable that states the layers of each stage, `16,32`; a row or a pod names it like a flag."""

_REST_BEFORE_THE_LAST_SINCE: Final = (0, 7, 4)
"""Pull request 13839: until then the last stage took every layer that did not divide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How a model's layers are cut into pipeline stages."""

    count: int = 1
    stated: tuple[int, ...] = ()
    """Layers of each stage as `VLLM_PP_LAYER_PARTITION` has them; empty for vLLM's own cut."""
    rest_on_last: bool = False
    """The cut of releases before 0.7.4: equal shares, the rest to the last stage."""

    def layers(self, total: int) -> tuple[int, ...]:
        """Return the number of layers of each stage.

        32 layers over 3 stages are 11, 11 and 10, since the last stage also holds the output head. A stated partition
        that does not add up is refused by vLLM (`problem`); it is left aside here.
        """
        if self.stated and self.problem(total) is None:
            return self.stated
        share, rest = divmod(total, self.count)
        counts = [share] * self.count
        if self.rest_on_last:
            counts[-1] += rest
            return tuple(counts)
        for place in range(2, rest + 2):
            counts[-place] += 1
        return tuple(counts)

    def of_layers(self, total: int) -> tuple[int, ...]:
        """Return the stage of each layer."""
        return tuple(stage for stage, count in enumerate(self.layers(total)) for _ in range(count))

    def problem(self, total: int) -> str | None:
        """Why vLLM refuses the stated partition of a model of `total` layers; None when it does not."""
        if not self.stated:
            return None
        stated = ",".join(map(str, self.stated))
        if len(self.stated) != self.count:
            return f"{PARTITION_VARIABLE}={stated} names {len(self.stated)} stages, pipeline-parallel-size {self.count}"
        if sum(self.stated) != total:
            return f"{PARTITION_VARIABLE}={stated} holds {sum(self.stated)} layers, the model has {total}"
        return None


def stages_of(count: int, version: EngineVersion, flags: Mapping[str, object]) -> Stages:
    """Return the cut of that version into `count` stages, or the one that the environment among `flags` states."""
    return Stages(
        count=count,
        stated=_partition(flags.get(PARTITION_VARIABLE)) if count > 1 else (),
        rest_on_last=count > 1 and version.release < _REST_BEFORE_THE_LAST_SINCE,
    )


def _partition(value: object) -> tuple[int, ...]:
    """The partition as the environment spells it; nothing for what vLLM could not read either."""
    parts = value if isinstance(value, (list, tuple)) else str(value if value is not None else "").split(",")
    words = [str(part).strip() for part in parts]
    return tuple(map(int, words)) if all(word.isdecimal() for word in words) else ()

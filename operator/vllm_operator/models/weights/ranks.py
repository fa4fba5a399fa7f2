"""What one rank of a parallel group holds of a blueprint.

Sources, vLLM 0.33: `model_executor/layers/linear.py`, `vocab_parallel_embedding.py` (padding to 64),
`fused_moe/config.py:FusedMoEParallelConfig.make`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllm_operator.models.stages import Stages
from vllm_operator.models.weights.formats import PLAIN, ExpertPadding, experts_bytes, linear_bytes
from vllm_operator.models.weights.modules import Experts, Layer, Linear, Module, Sharding, Tensor, Vocabulary
from vllm_operator.models.weights.rules import UNQUANTIZED, QuantizationRules

if TYPE_CHECKING:
    from vllm_operator.models.weights.formats import WeightFormat
    from vllm_operator.models.weights.modules import Blueprint

VOCABULARY_PADDING = 64
_SHARED_EXPERT = ".shared_expert"
_ONE_BYTE_EACH = 1
"""An element size that no dtype of a model has: every parameter then counts one."""
_DTYPE_BYTES = {"float64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "uint8": 1}


def dtype_bytes(dtype: str) -> int:
    """Bytes of one element; 2 for names that are not known (vLLM serves in 16 bits by default)."""
    return _DTYPE_BYTES.get(dtype.removeprefix("torch."), 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Sizes of the parallel groups, and how this device's kernels pad."""

    tensor: int = 1
    stages: Stages = field(default_factory=Stages)
    data: int = 1
    expert_parallel: bool = False
    shared_experts_whole: bool = False
    """With TP, DP and EP together tokens are dealt to the ranks of a layer (`ParallelConfig.use_sequence_parallel_moe`)
    and the shared experts are built with `disable_tp`."""
    padding: ExpertPadding = field(default_factory=ExpertPadding)

    @property
    def experts(self) -> int:
        """Ranks that share a layer's routed experts: data parallelism counts too."""
        return self.tensor * self.data

    def tensor_of(self, module: Linear) -> int:
        """Ranks that divide that matrix: the shared experts are whole where each rank has tokens of its own."""
        return 1 if self.shared_experts_whole and _SHARED_EXPERT in module.name else self.tensor


def element_count(blueprint: Blueprint) -> int:
    """Parameters of the whole model, each counted once whatever its type."""
    return sum(bytes_per_stage(blueprint, UNQUANTIZED, Ranks(), element_bytes=_ONE_BYTE_EACH))


def alike_layers(blueprint: Blueprint, rules: QuantizationRules) -> tuple[int, ...]:
    """For each layer the index of the first one with the same parts in the same formats, which counts for it.

    Rules by name ask for every layer; the answers are the same for every way to divide the model over GPUs.
    """
    first: dict[tuple[int, tuple[WeightFormat, ...]], int] = {}
    alike = []
    for index, layer in enumerate(blueprint.layers):
        formats = tuple(_format_of(module, rules, index) for module in layer) if rules.by_layer else ()
        # NB: equal layers of a blueprint are one tuple.
        alike.append(first.setdefault((id(layer), formats), index))
    return tuple(alike)


def bytes_per_stage(
    blueprint: Blueprint,
    rules: QuantizationRules,
    ranks: Ranks,
    *,
    element_bytes: int,
    alike: tuple[int, ...] | None = None,
) -> tuple[int, ...]:
    """Parameter bytes that one rank of each pipeline stage allocates; `alike` is of `alike_layers`, where at hand."""
    alike = alike_layers(blueprint, rules) if alike is None else alike
    ledger = _Ledger(rules, ranks, element_bytes)
    first, last = ledger.layer(blueprint.first, None), ledger.layer(blueprint.last, None)
    embedding, head = ledger.vocabularies(blueprint.first), ledger.vocabularies(blueprint.last)
    stages: list[int] = []
    start = 0
    counts = ranks.stages.layers(len(blueprint.layers))
    for stage, count in enumerate(counts):
        held = Counter(alike[start : start + count])
        total = sum(number * ledger.layer(blueprint.layers[index], index) for index, number in held.items())
        is_first, is_last = stage == 0, stage == ranks.stages.count - 1
        if is_first:
            total += first
        elif blueprint.embedding_everywhere or blueprint.vocabulary_everywhere or (is_last and blueprint.tied):
            total += embedding
        if is_last:
            total += last
        elif blueprint.vocabulary_everywhere:
            total += head
        stages.append(total)
        start += count
    return tuple(stages)


def layer_bytes(layer: Layer, rules: QuantizationRules, ranks: Ranks, *, element_bytes: int, index: int) -> int:
    """Parameter bytes that one rank allocates of one layer, which is the model's `index`-th for rules by name."""
    return _Ledger(rules, ranks, element_bytes).layer(layer, index)


def _format_of(module: Module, rules: QuantizationRules, index: int | None) -> WeightFormat:
    """The format that the rules give a module of the model's `index`-th layer."""
    match module:
        case Linear():
            return rules.for_linear(_named(module.name, index), module.parts) if module.quantizable else PLAIN
        case Vocabulary():
            return rules.for_head(module.name) if module.head else PLAIN
        case Experts():
            return rules.for_experts(_named(module.name, index))
        case Tensor():
            return PLAIN


class _Ledger:
    """Counts modules; a layer that comes again under the same index is counted once."""

    def __init__(self, rules: QuantizationRules, ranks: Ranks, element_bytes: int) -> None:
        self._rules = rules
        self._ranks = ranks
        self._element_bytes = element_bytes
        self._counted: dict[tuple[int, int | None], int] = {}

    def layer(self, modules: Layer, index: int | None) -> int:
        key = (id(modules), index)
        if key not in self._counted:
            self._counted[key] = sum(self.module(module, index) for module in modules)
        return self._counted[key]

    def vocabularies(self, modules: Layer) -> int:
        return sum(self.module(module, None) for module in modules if isinstance(module, Vocabulary))

    def module(self, module: Module, index: int | None) -> int:
        match module:
            case Linear():
                return module.count * self._linear(module, index)
            case Tensor():
                return module.count * self._tensor(module)
            case Vocabulary():
                return self._vocabulary(module)
            case Experts():
                return self._experts(module, index)

    def _linear(self, module: Linear, index: int | None) -> int:
        element = self._element_size(module.dtype)
        ranks = self._ranks.tensor_of(module)
        inputs = module.inputs.on_rank(ranks)
        outputs = tuple(extent.on_rank(ranks) for extent in module.outputs)
        total = linear_bytes(
            _format_of(module, self._rules, index), inputs=inputs, outputs=outputs, element_bytes=element
        )
        return total + (sum(outputs) * element if module.bias else 0)

    def _tensor(self, module: Tensor) -> int:
        elements = 1
        for extent in module.extents:
            elements *= extent.on_rank(self._ranks.tensor)
        return elements * self._element_size(module.dtype)

    def _element_size(self, dtype: str | None) -> int:
        if dtype is None or self._element_bytes == _ONE_BYTE_EACH:
            return self._element_bytes
        return dtype_bytes(dtype)

    def _vocabulary(self, module: Vocabulary) -> int:
        rows = -(-module.rows // VOCABULARY_PADDING) * VOCABULARY_PADDING
        rows = -(-rows // self._ranks.tensor) if module.sharding is Sharding.DIVIDED else module.rows
        bias = rows * self._element_bytes if module.bias else 0
        fmt = _format_of(module, self._rules, None)
        return linear_bytes(fmt, inputs=module.columns, outputs=(rows,), element_bytes=self._element_bytes) + bias

    def _experts(self, module: Experts, index: int | None) -> int:
        ranks = self._ranks
        count, intermediate = module.count, module.intermediate
        if ranks.expert_parallel:
            count = -(-count // ranks.experts)
        else:
            intermediate = -(-intermediate // ranks.experts)
            if ranks.experts > 1:
                intermediate = max(intermediate, module.smallest_share)
        return experts_bytes(
            _format_of(module, self._rules, index),
            count=count,
            hidden=module.hidden,
            intermediate=intermediate,
            gated=module.gated,
            bias=module.bias,
            element_bytes=self._element_bytes,
            padding=ranks.padding,
        )


def _named(name: str, index: int | None) -> str:
    return name if index is None else name.replace("{layer}", str(index))

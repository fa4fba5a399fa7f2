"""Results kept by model, so that a search over settings pays for what does not change only once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from vllm_operator.models.facts import ModelFacts

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Bounded memory of results by model and key. Models are compared by identity: facts are frozen and large."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[tuple[int, Hashable], tuple[ModelFacts, Value]] = OrderedDict()

    def get(self, facts: ModelFacts, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value kept for that model and key, else `compute()`, kept from now on."""
        place = (id(facts), key)
        found = self._kept.get(place)
        if found is not None:
            return found[1]
        value = compute()
        # NB: the facts are kept beside the value, or another model could be made at the same address.
        self._kept[place] = (facts, value)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return value

"""One class of GPUs as one question sees it: what many steps of a search ask of it is found once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.cluster.records import Sharing
from vllm_operator.planning.bounds import alone, asked_context
from vllm_operator.planning.candidate import SMALLEST_CONTEXT
from vllm_operator.planning.devices import device_for
from vllm_operator.planning.shapes import shapes_of
from vllm_operator.planning.sizing import sizes_on

if TYPE_CHECKING:
    from vllm_operator.planning.bounds import Alone
    from vllm_operator.planning.capacity import ClassCapacity
    from vllm_operator.planning.sizing import Question, Sizes
    from vllm_operator.planning.tuning import Parallelism

ASSUMED_CLIENTS = 2
"""Pods on a time-sliced GPU where nothing says how many: at least one more than ours."""


class Offer:
    """One class of GPUs for one question."""

    def __init__(self, question: Question, capacity: ClassCapacity) -> None:
        self.capacity = capacity
        self.device = device_for(capacity.gpu_class)
        """None where the memory of the class's GPUs is not known: nothing is promised there."""
        self.shapes = shapes_of(question, capacity)
        self._question = question
        self._sizes = (
            sizes_on(question, self.device, clients=_clients(capacity), in_use_bytes=capacity.in_use_bytes)
            if self.device is not None
            else None
        )
        self._alone: Alone | None = None
        self._is_alone_known = False

    def sizes(self, shape: Parallelism) -> Sizes:
        """The sizes of a replica of that shape; the device must be known."""
        assert self._sizes is not None, "nothing is known of this device's memory"
        return self._sizes.of(self._question, shape)

    @property
    def alone(self) -> Alone | None:
        """A replica on one GPU; None where nothing can be concluded from it."""
        if not self._is_alone_known:
            self._is_alone_known = True
            # NB: arguments of the user may move weights to the host, as many bytes from each GPU: dividing is no bound.
            if self.device is not None and not self._question.request.extra_args:
                self._alone = alone(self.sizes(self.shapes.alone), asked_context(self._question))
        return self._alone

    def fewest_gpus(self) -> int:
        """The number of GPUs below which no shape holds the workload, lowered as far as the user allows."""
        if self.alone is None:
            return 1
        context, request = asked_context(self._question), self._question.request
        if request.policy.may_shrink:
            return self.alone.fewest_gpus(min(context, SMALLEST_CONTEXT), 1)
        return self.alone.fewest_gpus(context, request.concurrency)


def offer_of(question: Question, capacity: ClassCapacity) -> Offer:
    """What a class offers, found once for each question."""
    found = question.offers.get(id(capacity))
    if found is None:
        found = question.offers[id(capacity)] = Offer(question, capacity)
    return found


def _clients(capacity: ClassCapacity) -> int:
    """How many pods share the memory of one device without a limit between them; an MPS share or slice has its own."""
    if capacity.gpu_class.sharing is not Sharing.TIME_SLICED:
        return 1
    return capacity.gpu_class.clients_per_device or ASSUMED_CLIENTS

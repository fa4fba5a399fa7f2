"""What is remembered of a model on a GPU: nothing that belongs to another request."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.planning.fleets import LLAMA_8B, facts, inventory, node, spec

from vllm_operator.planning.defaults import Capabilities, OperatorDefaults
from vllm_operator.planning.judging import fitting_of
from vllm_operator.planning.offer import offer_of
from vllm_operator.planning.request import request_of
from vllm_operator.planning.sizing import question_of
from vllm_operator.planning.sorting import capacity_for


def test_a_fitting_with_leave_to_shrink_is_not_given_to_who_gave_none() -> None:
    """Planning asks for both with the same sizes, first as asked (planning.decision)."""
    wishes = spec(LLAMA_8B, workload={"contextLength": 32768, "concurrency": 8}, policy={"autoAdjust": "Safe"})
    request = request_of(wishes, OperatorDefaults(), Capabilities())
    question = question_of(request, facts(LLAMA_8B), None)
    as_asked = replace(question, request=replace(request, policy=replace(request.policy, may_shrink=False)))
    capacity = capacity_for(request.gpus, inventory(node("L4", "l4", 1))).classes[0]
    offer = offer_of(question, capacity)
    sizes = offer.sizes(offer.shapes.alone)

    shrunk, whole = fitting_of(question, sizes), fitting_of(as_asked, sizes)

    assert (whole.context_length, whole.concurrency) == (32768, 8)
    assert not whole.need.fits
    assert shrunk.need.fits
    assert shrunk.context_length * shrunk.concurrency < 32768 * 8

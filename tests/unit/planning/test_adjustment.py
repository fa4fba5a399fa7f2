"""What is asked for less after a start that asked for too much."""

from __future__ import annotations

import pytest

from vllm_operator.api.spec import VLLMDeploymentSpec
from vllm_operator.planning.adjustment import MOST_STEPS, Adjustment, Overload, adjusted, next_adjustment

FACT = "vLLM needs 1.00 GiB of KV cache for 8192 tokens and has 0.50 GiB beside the weights"


def after(overload: Overload, *, before: Adjustment | None = None) -> Adjustment | None:
    return next_adjustment(overload, max_model_len=8192, max_num_seqs=64, before=before)


@pytest.mark.parametrize(
    ("overload", "context", "sequences"),
    [
        (Overload(fact=FACT, most_context=4100), 4096, None),
        (Overload(fact=FACT, most_sequences=17), None, 17),
        (Overload(fact=FACT, out_of_memory=True), None, 32),
    ],
    ids=["vLLM's own context, in whole steps", "vLLM's own number", "half"],
)
def test_a_step_follows_from_vllms_own_words(overload: Overload, context: int | None, sequences: int | None) -> None:
    assert after(overload) == Adjustment(context_length=context, max_num_seqs=sequences, steps=1, why=FACT)


@pytest.mark.parametrize(
    "overload",
    [
        Overload(fact=FACT),
        Overload(fact=FACT, most_context=1024),
        Overload(fact=FACT, most_context=8192),
        Overload(fact=FACT, most_sequences=64),
        Overload(fact=FACT, most_sequences=0),
    ],
    ids=["no figure", "too short to be of use", "no less than before", "no fewer than before", "none"],
)
def test_where_less_would_not_help_nothing_is_lowered(overload: Overload) -> None:
    assert after(overload) is None


def test_a_second_step_keeps_the_first_and_there_are_few() -> None:
    first = after(Overload(fact=FACT, most_context=4096))
    second = after(Overload(fact="a GPU ran out of memory", out_of_memory=True), before=first)
    assert second == Adjustment(context_length=4096, max_num_seqs=32, steps=2, why="a GPU ran out of memory")
    assert after(Overload(fact=FACT, out_of_memory=True), before=Adjustment(steps=MOST_STEPS)) is None


def test_one_sequence_is_not_halved() -> None:
    overload = Overload(fact=FACT, out_of_memory=True)
    assert next_adjustment(overload, max_model_len=8192, max_num_seqs=1, before=None) is None


def spec(**sections: object) -> VLLMDeploymentSpec:
    return VLLMDeploymentSpec.model_validate({"model": {"uri": "org/model"}, **sections})


def test_no_more_is_asked_for_than_was_adjusted_to_and_never_more_than_the_user_wants() -> None:
    asked = spec(workload={"contextLength": 8192, "concurrency": 64}, engine={"maxNumSeqs": 128, "dtype": "bfloat16"})

    less = adjusted(asked, Adjustment(context_length=4096, max_num_seqs=32))

    assert (less.workload.context_length, less.workload.concurrency, less.engine.max_num_seqs) == (4096, 32, 32)
    assert adjusted(asked, Adjustment(context_length=16384, max_num_seqs=256)) == asked
    untouched = asked.model_dump(exclude={"workload", "engine"})
    assert less.model_dump(exclude={"workload", "engine"}) == untouched
    assert less.engine.dtype == "bfloat16"


def test_what_the_planner_may_choose_is_bounded_as_well() -> None:
    less = adjusted(spec(), Adjustment(context_length=4096, max_num_seqs=32))
    assert (less.workload.context_length, less.engine.max_num_seqs) == (4096, 32)


def test_the_message_says_what_why_and_how_to_have_it_otherwise() -> None:
    text = Adjustment(context_length=4096, max_num_seqs=32, steps=2, why=FACT).message
    assert text.startswith(
        "autoAdjust lowered the context to 4,096 and the sequences at once to 32 (step 2 of at most 3)"
    )
    assert FACT in text
    assert "autoAdjust to Never" in text

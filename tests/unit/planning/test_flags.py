"""The embedded flag tables, and what they accept."""

from __future__ import annotations

import pytest

from vllm_operator.planning.families import IMAGE_TEMPLATES, all_families, family_of
from vllm_operator.planning.flags import KNOWN_VERSIONS, flags_of


@pytest.mark.parametrize("version", KNOWN_VERSIONS)
def test_each_known_release_has_its_own_table(version: str) -> None:
    table = flags_of(version)
    assert table.exact
    assert table.has("tensor-parallel-size")
    assert len(table.flags) > 300


@pytest.mark.parametrize(
    ("version", "exact"),
    [("v0.33.0", True), ("0.33.1", False), ("0.40.0.dev3", False), ("0.10.2", False)],
)
def test_another_release_borrows_the_nearest_table_and_says_so(version: str, exact: bool) -> None:
    assert flags_of(version).exact is exact


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("m", "--max-model-len", "8192"), id="value"),
        pytest.param(("m", "--max-model-len", "auto"), id="auto"),
        pytest.param(("m", "--max-model-len=128k"), id="inline"),
        pytest.param(("m", "--enforce-eager"), id="switch"),
        pytest.param(("m", "--lora-modules", "a=x", "b=y"), id="several"),
        pytest.param(("m", "--speculative-config", '{"method": "ngram"}'), id="json"),
        pytest.param(("m", "--attention_config.backend", "FLASHINFER"), id="field-with-underscore"),
    ],
)
def test_what_vllm_accepts_has_no_problem(arguments: tuple[str, ...]) -> None:
    assert flags_of("0.33.0").problems(arguments) == ()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("m", "--swap-space", "4"), "vLLM 0.33.0 has no flag --swap-space"),
        (("m", "--num-scheduler-steps", "8"), "vLLM 0.33.0 has no flag --num-scheduler-steps"),
        (("m", "--enforce-eager=true"), "--enforce-eager takes no value, got 'true'"),
        (("m", "--max-num-seqs"), "--max-num-seqs takes one value, got 0"),
        (("m", "--max-num-seqs", "many"), "--max-num-seqs does not accept 'many'"),
        (("m", "--max-lora-rank", "20"), "--max-lora-rank does not accept '20'"),
        (("m", "--dtype", "int4"), "--dtype does not accept 'int4'"),
        (("m", "--speculative-config", "{"), "--speculative-config does not accept '{'"),
        (("m", "--lora-modules"), "--lora-modules needs at least one value"),
        (("m", "-tp"), "'-tp' is neither a flag nor the value of one"),
    ],
)
def test_what_vllm_refuses_is_named(arguments: tuple[str, ...], problem: str) -> None:
    assert flags_of("0.33.0").problems(arguments) == (problem,)


@pytest.mark.parametrize("version", KNOWN_VERSIONS)
def test_families_use_only_parsers_and_flags_that_vllm_has(version: str) -> None:
    table = flags_of(version)
    for family in all_families():
        if version == KNOWN_VERSIONS[-1]:
            assert family.tool_parser is None or family.tool_parser in table.tool_parsers, family
            assert family.reasoning_parser is None or family.reasoning_parser in table.reasoning_parsers, family
        tokens = [token for name, value in (*family.flags, *family.blackwell_flags) for token in _tokens(name, value)]
        assert table.problems(["m", *tokens]) == (), family
    assert IMAGE_TEMPLATES.startswith("/")


def _tokens(name: str, value: str | None) -> tuple[str, ...]:
    return (f"--{name}",) if value is None else (f"--{name}", value)


@pytest.mark.parametrize(
    ("model_type", "name", "title"),
    [
        ("deepseek_v3", "deepseek-ai/DeepSeek-R1-0528", "DeepSeek-R1"),
        ("deepseek_v3", "deepseek-ai/DeepSeek-V3-0324", "DeepSeek-V3"),
        ("deepseek_v3", "deepseek-ai/DeepSeek-V3.1-Terminus", "DeepSeek-V3.1"),
        ("deepseek_v41", "deepseek-ai/DeepSeek-V4.1", "DeepSeek-V4.1"),
        ("deepseek_v4", "deepseek-ai/DeepSeek-V4-Flash", "DeepSeek-V4"),
        ("bailing_moe_v3_vl", "inclusionAI/Ling-3.0-flash-VL", "Ling 3"),
        ("hy_v4", "tencent/Hy4", "Hy4"),
        ("muse_glimmer", "org/muse-glimmer", "Muse Glimmer"),
        ("kimi_k2", "moonshotai/Kimi-K2-Instruct", "Kimi K2"),
        ("kimi_k2", "moonshotai/Kimi-K2-Thinking", "Kimi K2 Thinking"),
        ("kimi_k25", "nvidia/Kimi-K2.7-Code-NVFP4", "Kimi K2.5"),
        ("glm4_moe", "zai-org/GLM-4.6", "GLM-4.5"),
        ("glm4_moe", "zai-org/GLM-4.7-FP8", "GLM-4.7"),
        ("glm_moe_dsa", "zai-org/GLM-5.3", "GLM-5"),
        ("glm5next", "zai-org/GLM-5.3-Flash", "GLM-5.3-Flash"),
        ("cohere2_moe", "CohereLabs/North-Mini-Code-1.0-fp8", "Cohere Command 4"),
        ("cohere2", "CohereLabs/c4ai-command-a-03-2025", "Command A"),
        ("llama", "openbmb/MiniCPM5-1B", "MiniCPM 5"),
        ("olmo3", "allenai/Olmo-3-7B-Think", "OLMo 3 Think"),
        ("olmo3", "allenai/Olmo-3-7B-Instruct", "OLMo 3"),
        ("minicpmv4_6", "openbmb/MiniCPM-V-4.6", "MiniCPM-V 4.6"),
        ("mellum", "JetBrains/Mellum2-12B-A2.5B-Thinking", "Mellum 2 Thinking"),
        ("k2_horizon", "IFM/Jais-3-32B", "Jais 3"),
        ("k2_horizon", "IFM/K2-Horizon-7B", "K2 Horizon"),
        ("mistral3", "mistralai/Mistral-Medium-3.5-128B", "Mistral Medium 3.5"),
        ("mistral3", "mistralai/Mistral-Large-3-675B-Instruct-2512", "Mistral Large 3"),
        ("nemotron_h", "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-BF16", "Nemotron 3.5"),
        ("qwen3_moe", "Qwen/Qwen3-Coder-480B-A35B-Instruct", "Qwen3-Coder"),
        ("qwen3_next", "Qwen/Qwen3-Next-80B-A3B-Thinking", "Qwen3"),
        ("qwen3_8_moe", "Qwen/Qwen3.8-2.4T-A95B", "Qwen3.5"),
        ("mistral3", "mistralai/Ministral-3-8B-Reasoning-2512", "Ministral 3 Reasoning"),
        ("llama", "meta-llama/Llama-3.2-3B-Instruct", "Llama 3 Instruct"),
        ("llama", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "DeepSeek-R1 distillate"),
    ],
)
def test_a_new_member_of_a_family_is_recognised(model_type: str, name: str, title: str) -> None:
    family = family_of((model_type,), name)
    assert family is not None
    assert family.title == title


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("llama", "org/my-model"), ("opt", "facebook/opt-125m"), ("qwen3", "Qwen/Qwen3Guard-Gen-8B")],
)
def test_what_is_not_known_is_left_alone(model_type: str, name: str) -> None:
    assert family_of((model_type,), name) is None

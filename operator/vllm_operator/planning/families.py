"""What a model family needs to be useful behind an API: tool-call and reasoning parser, tokenizer mode, chat template.

A family is recognised by its `model_type` in config.json, so that a new member is right without an entry of its own;
the model's name is looked at only where one `model_type` covers families that speak different formats. The first row
that matches wins. A parser that the release does not have is left out (`planning.flags`). Which family takes which: the
vLLM project's recipes (github.com/vllm-project/recipes) and vLLM's own pages on tool calling and reasoning outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE_TEMPLATES = "/vllm-workspace/examples"
"""Where the images of the vLLM project keep the chat templates that its documentation names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of model and what vLLM must be told of it."""

    title: str
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    flags: tuple[tuple[str, str | None], ...] = ()
    """Further flags that the family needs to answer rightly; None for a switch."""
    blackwell_flags: tuple[tuple[str, str | None], ...] = ()
    """Flags that only GPUs of compute capability 10 and up understand."""
    expert_parallel: bool = False
    """Whether the recipes spread experts over the GPUs of a group instead of cutting each one."""
    chat_template: str | None = None
    """A template of the vLLM image that tool calls need, because the checkpoint's own does not render tools."""
    template_options: tuple[tuple[str, bool], ...] = ()
    parsers_import: str | None = None
    """A Python package that the parsers import, and that the images of the vLLM project do not have: without it vLLM
    ends at its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    types: tuple[str, ...]
    family: Family
    names: tuple[str, ...] = ("*",)
    not_names: tuple[str, ...] = ()

    def matches(self, model_types: tuple[str, ...], name: str) -> bool:
        return (
            any(fnmatchcase(kind, pattern) for kind in model_types for pattern in self.types)
            and any(fnmatchcase(name, pattern) for pattern in self.names)
            and not any(fnmatchcase(name, pattern) for pattern in self.not_names)
        )


def _row(
    types: str,
    title: str,
    tool: str | None = None,
    reasoning: str | None = None,
    *,
    names: str = "*",
    not_names: str = "",
    flags: Mapping[str, str | None] | None = None,
    blackwell_flags: Mapping[str, str | None] | None = None,
    expert_parallel: bool = False,
    chat_template: str | None = None,
    template_options: Mapping[str, bool] | None = None,
    parsers_import: str | None = None,
) -> _Row:
    family = Family(
        title=title,
        tool_parser=tool,
        reasoning_parser=reasoning,
        flags=tuple((flags or {}).items()),
        blackwell_flags=tuple((blackwell_flags or {}).items()),
        expert_parallel=expert_parallel,
        chat_template=chat_template,
        template_options=tuple((template_options or {}).items()),
        parsers_import=parsers_import,
    )
    return _Row(
        types=tuple(types.split()), family=family, names=tuple(names.split()), not_names=tuple(not_names.split())
    )


_ROWS = (
    # DeepSeek: from V3.2 on the checkpoint has no chat template; vLLM encodes messages in its tokenizer mode.
    # V4.1 marks its calls otherwise than V4 (vllm/parser/deepseek_v41.py).
    _row("deepseek_v41*", "DeepSeek-V4.1", "deepseek_v41", "deepseek_v41", flags={"tokenizer-mode": "deepseek_v41"}),
    _row("deepseek_v4* deepseek_ref", "DeepSeek-V4", "deepseek_v4", "deepseek_v4",
         flags={"tokenizer-mode": "deepseek_v4", "block-size": "256",
                "reasoning-config": '{"reasoning_parser": "deepseek_v4", "reasoning_start_str": "", '
                                    '"reasoning_end_str": ""}'}),
    _row("deepseek_v32", "DeepSeek-V3.2", "deepseek_v32", "deepseek_v3",
         flags={"tokenizer-mode": "deepseek_v32", "kernel-config.enable_flashinfer_autotune": "False"}),
    _row("deepseek_v3", "DeepSeek-R1", "deepseek_v3", "deepseek_r1", names="*deepseek-r1*", expert_parallel=True,
         chat_template="tool_chat_template_deepseekr1.jinja"),
    _row("deepseek_v3", "DeepSeek-V3.1", "deepseek_v31", "deepseek_v3", names="*deepseek-v3.1*",
         chat_template="tool_chat_template_deepseekv31.jinja"),
    _row("deepseek_v3", "GigaChat 3", "gigachat3", names="*gigachat3*"),
    _row("deepseek_v3", "DeepSeek-V3", "deepseek_v3", names="*deepseek-v3*",
         chat_template="tool_chat_template_deepseekv3.jinja"),
    _row("qwen2 llama", "DeepSeek-R1 distillate", None, "deepseek_r1", names="*deepseek-r1-distill*"),
    # Kimi: K2 has DeepSeek-V3's model_type.
    _row("kimi_k2[0-9]*", "Kimi K2.5", "kimi_k2", "kimi_k2"),
    _row("kimi_k3*", "Kimi K3", "kimi_k3", "kimi_k3"),
    _row("kimi_k2 deepseek_v3", "Kimi K2", "kimi_k2", names="*kimi-k2*", not_names="*thinking* *k2.[5-9]*"),
    _row("kimi_k2* deepseek_v3", "Kimi K2 Thinking", "kimi_k2", "kimi_k2", names="*kimi-k2* *kimi_k2*"),
    # GLM: 4.7 and 5 write tool calls differently from 4.5 and 4.6.
    _row("glm4_moe* glm4v_moe*", "GLM-4.7", "glm47", "glm45", names="*glm-4.7*"),
    _row("glm4v_moe*", "GLM-4.5V", "glm45", "glm45", expert_parallel=True,
         flags={"mm-encoder-tp-mode": "data", "mm-processor-cache-type": "shm"}),
    _row("glm4_moe*", "GLM-4.5", "glm45", "glm45"),
    # It sees images too: their place in a message is lost where its content is made a string.
    _row("glm5next* glm5_next*", "GLM-5.3-Flash", "glm47", "glm47"),
    _row("glm_moe_dsa* glm5*", "GLM-5", "glm47", "glm45", flags={"chat-template-content-format": "string"}),
    # Ling 3 calls tools as GLM-4.7 does and thinks unless told not to (vllm/parser/ling3.py).
    _row("bailing_moe_v3*", "Ling 3", "ling3", "ling3"),
    _row("bailing*", "Ling 3", "ling3", "ling3", names="*ling-3* *ring-3*"),
    # Qwen
    _row("qwen3_vl* qwen3_[0-9]*", "Holo 2", "hermes", "holo2", names="*holo2*"),
    _row("qwen2 qwen3 llama", "xLAM", "xlam", names="*xlam-*"),
    _row("qwen3_moe qwen3_next qwen3", "Qwen3-Coder", "qwen3_coder", names="*qwen3-coder* *qwen3*coder*"),
    _row("qwen3 qwen3_moe qwen3_next qwen3_vl*", "Qwen3 Instruct", "hermes", names="*instruct*"),
    _row("qwen3 qwen3_moe qwen3_next qwen3_vl*", "Qwen3", "hermes", "qwen3",
         not_names="*embedding* *reranker* *-base* *guard*"),
    _row("qwen3_[0-9]* qwen4*", "Qwen3.5", "qwen3_coder", "qwen3"),
    _row("qwen2 qwen2_moe", "QwQ", "hermes", "deepseek_r1", names="*qwq*"),
    _row("qwen2 qwen2_moe qwen2_5_vl", "Qwen2.5 Instruct", "hermes", names="*qwen2.5*instruct*",
         not_names="*math* *embedding*"),
    # Meta
    _row("llama4", "Llama 4", "llama4_pythonic", names="*instruct*",
         chat_template="tool_chat_template_llama4_pythonic.jinja"),
    _row("llama", "Hermes fine-tune", "hermes", names="*hermes-[234]*"),
    _row("llama mllama", "Llama 3 Instruct", "llama3_json", names="*llama-3.[123]*instruct*"),
    # Mistral
    # Ministral 3 ships Mistral's own formats beside the Hub's; the recipes run those.
    _row("mistral* ministral*", "Ministral 3 Reasoning", "mistral", "mistral", names="*ministral-3-*reasoning*",
         flags={"tokenizer_mode": "mistral", "config_format": "mistral", "load_format": "mistral"}),
    _row("mistral* ministral*", "Ministral 3", "mistral", names="*ministral-3-*",
         flags={"tokenizer_mode": "mistral", "config_format": "mistral", "load_format": "mistral"}),
    _row("mistral*", "Mistral Medium 3.5", "mistral", "mistral", names="*mistral-medium-3.5*",
         flags={"tokenizer_mode": "mistral", "config_format": "mistral", "load_format": "mistral"}),
    _row("mistral* deepseek_v3", "Mistral Large 3", "mistral", names="*mistral-large-3-*",
         flags={"tokenizer_mode": "mistral", "config_format": "mistral", "load_format": "mistral"}),
    _row("mistral* ministral* mixtral pixtral", "Mistral reasoning model", "mistral", "mistral",
         names="*magistral* *reasoning* *mistral-small-4*"),
    _row("mistral* ministral* mixtral pixtral", "Mistral Instruct", "mistral",
         names="*instruct* *devstral* *mistral-small* *mistral-large* *mistral-medium*"),
    # NVIDIA
    _row("nemotron_h*", "Nemotron 3 Ultra", "qwen3_coder", "nemotron_v3", names="*nemotron-3-ultra*",
         flags={"async-scheduling": None, "enable-flashinfer-autotune": None, "mamba-backend": "triton",
                "mamba-ssm-cache-dtype": "float32"}),
    _row("nemotron_h*", "Nemotron 3 Nano", "qwen3_coder", "nemotron_v3", names="*nemotron-3-nano*",
         not_names="*omni*", flags={"async-scheduling": None}),
    _row("nemotron_h*", "Nemotron 3.5", "qwen3_xml", "nemotron_v3", names="*nemotron-3.5*"),
    _row("nemotron_h* nemotron*nano*omni* nemotronh*", "Nemotron 3", "qwen3_coder", "nemotron_v3",
         names="*nemotron-3* *nemotron3*"),
    # OpenAI
    _row("gpt_oss", "gpt-oss", "openai", "openai_gptoss"),
    # Google
    _row("gemma4*", "Gemma 4", "gemma4", "gemma4", chat_template="tool_chat_template_gemma4.jinja"),
    _row("gemma3*", "FunctionGemma", "functiongemma", names="*functiongemma*"),
    # Others, by model_type alone
    _row("minimax_m3*", "MiniMax-M3 NVFP4", "minimax_m3", "minimax_m3", names="*nvfp4*", flags={"block-size": "128"},
         blackwell_flags={"attention_config.backend": "FLASHINFER", "attention_config.use_trtllm_attention": "true",
                          "attention_config.indexer_kv_dtype": "fp8",
                          "attention_config.minimax_m3_msa_decode_backend": "cutlass"}),
    _row("minimax_m3*", "MiniMax-M3", "minimax_m3", "minimax_m3", flags={"block-size": "128"}),
    _row("minimax_m2*", "MiniMax-M2", "minimax_m2", "minimax_m2"),
    _row("mimo_v2*", "MiMo-V2-Flash", "qwen3_xml", "qwen3", names="*v2-flash*", flags={"generation-config": "vllm"}),
    _row("mimo_v2*", "MiMo-V2", "mimo", "mimo", flags={"generation-config": "vllm"}),
    _row("mimo*", "MiMo", "mimo", "mimo"),
    _row("step5*", "Step 5", "step5", "step5"),
    _row("step3p* step-3.[5-9]*", "Step-3.5", "step3p5", "step3p5", flags={"disable-cascade-attn": None},
         expert_parallel=True),
    _row("step3*", "Step3", "step3", "step3"),
    # Granite 4.2 thinks, and calls tools in Nemotron's format (vllm/parser/granite_thinking.py).
    _row("granite*", "Granite 4.2", "qwen3_coder", "granite_thinking_parser", names="*granite-4.[2-9]*"),
    _row("gpt_bigcode", "Granite 20B function calling", "granite-20b-fc", names="*granite-20b-functioncalling*"),
    _row("granitemoehybrid* granite4*", "Granite 4", "granite4"),
    _row("granite*", "Granite 3", "granite", "granite"),
    _row("ernie4_5*", "ERNIE 4.5", "ernie45", "ernie45", names="*thinking*"),
    _row("hunyuan_v1_moe hunyuan*", "Hunyuan A13B", "hunyuan_a13b", "hunyuan_a13b", names="*a13b*"),
    _row("hy_v4* hy4*", "Hy4", "hy_v4", "hy_v4"),
    _row("hy_v3* hy3*", "Hy3", "hy_v3", "hy_v3"),
    _row("seed_oss", "Seed-OSS", "seed_oss", "seed_oss"),
    _row("inkling*", "Inkling", "inkling", "inkling", 
         flags={"tokenizer-mode": "inkling", "kernel-config.enable_flashinfer_autotune": "False"}),
    _row("laguna* poolside*", "Laguna", "poolside_v1", "poolside_v1",
         template_options={"enable_thinking": True}),
    _row("lfm2*", "LFM2 Thinking", "lfm2", "qwen3", names="*thinking* *8b-a1b*"),
    _row("lfm2*", "LFM2", "lfm2"),
    _row("interns1* intern_s1*", "Intern-S1", "internlm", "deepseek_r1"),
    _row("intern_s2* interns2*", "Intern-S2", "qwen3_coder", "qwen3"),
    _row("internlm2* internlm3*", "InternLM", "internlm", names="*chat* *instruct*"),
    _row("afmoe* trinity*", "Trinity", "qwen3_coder", "deepseek_r1", names="*thinking*"),
    _row("mellum*", "Mellum 2", "hermes", names="*instruct*"),
    _row("mellum*", "Mellum 2 Thinking", "hermes", "qwen3", names="*thinking*"),
    _row("dots3* dots_note*", "dots", "dots", "qwen3"),
    _row("muse_glimmer*", "Muse Glimmer", "muse_glimmer", "muse_glimmer"),
    _row("muse*", "Muse", "muse", "muse"),
    _row("beam*", "Beam", "beam", "beam"),
    _row("k2_horizon* jais3*", "Jais 3", "k2_horizon", "k2_horizon", names="*jais-3*",
         flags={"chat-template-content-format": "string"}),
    _row("k2_horizon*", "K2 Horizon", "k2_horizon", "k2_horizon"),
    _row("plamo3*", "PLaMo 3", "plamo3", "plamo3", not_names="*-base*"),
    # Command A+, North (vllm/reasoning/cohere_command_reasoning_parser.py: its import).
    _row("cohere2_moe* cohere2moe*", "Cohere Command 4", "cohere_command4", "cohere_command4",
         parsers_import="cohere_melody"),
    _row("cohere2*", "Command A", "cohere_command3", "cohere_command3", names="*command-a*",
         parsers_import="cohere_melody"),
    # The parser takes all for thought until a mark that only Think models write.
    _row("olmo3*", "OLMo 3 Think", "olmo3", "olmo3", names="*think*"),
    _row("olmo3*", "OLMo 3", "olmo3"),
    _row("phi3 phi4*", "Phi-4-mini", "phi4_mini_json", names="*phi-4-mini*",
         chat_template="tool_chat_template_phi4_mini.jinja"),
    # OCR models: no turn ever repeats an image or a prompt, so both caches only cost memory.
    _row("paddleocr_vl* hunyuan_vl* unlimited_ocr*", "OCR model",
         flags={"no-enable-prefix-caching": None, "mm-processor-cache-gb": "0"}),
    _row("deepseek_ocr* deepseek_vl_v2", "DeepSeek-OCR", names="*ocr*",
         flags={"no-enable-prefix-caching": None, "mm-processor-cache-gb": "0",
                "logits-processors": "vllm.model_executor.models.deepseek_ocr:NGramPerReqLogitsProcessor"}),
    _row("jamba", "Jamba", "jamba", names="*jamba*"),
    _row("longcat*", "LongCat", "longcat"),
    _row("apertus*", "Apertus", "apertus"),
    _row("minicpm5* llama", "MiniCPM 5", "minicpm5", names="*minicpm5*"),
    _row("minicpmv4_6*", "MiniCPM-V 4.6", "qwen3_coder", not_names="*thinking*"),
    _row("smollm3", "SmolLM3", "hermes"),
)  # fmt: skip


def family_of(model_types: tuple[str, ...], model_name: str) -> Family | None:
    """The family of a model, or None where none is known.

    `model_types` are the `model_type`s of config.json, outer first; `model_name` is the repository or directory name.
    """
    kinds = tuple(kind.lower() for kind in model_types if kind)
    name = model_name.rstrip("/").rpartition("/")[2].lower()
    return next((row.family for row in _ROWS if row.matches(kinds, name)), None)


def all_families() -> tuple[Family, ...]:
    """Every family of the table, for the documentation and for checks of the table itself."""
    return tuple(row.family for row in _ROWS)

"""Towers that came with their language models: MoonViT (Kimi), MiniMax M3, Gemma 3n and 4, Llama 4.

Sources, vLLM 0.33: `models/moonvit.py`, `models/kimi_k25_vit.py`, `models/kimi_k3/`, `models/minimax_m3/common/`,
`models/{gemma3n_mm,gemma4_mm,mllama4}.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.decoder import hidden_size
from vllm_operator.models.weights.families.tower_parts import NAME, Blocks, blocks, dense, divided_pair, parameters
from vllm_operator.models.weights.fields import flag, integer, section
from vllm_operator.models.weights.modules import Layer, Linear, Vocabulary, divided, whole

if TYPE_CHECKING:
    from vllm_operator.models.weights.fields import Config


def moon_tower(config: Config) -> Layer:
    """Kimi-VL and Kimi-K2.5 with MoonViT."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "vt_hidden_size", "hidden_size", default=1152)
    patch = integer(vision, "patch_size", default=14)
    side = integer(vision, "init_pos_emb_height", default=64)
    width = integer(vision, "init_pos_emb_width", default=64)
    merged = 4 * hidden
    out = hidden_size(section(config, "text_config")) or integer(vision, "text_hidden_size")
    layer = parameters(3 * patch**2 * hidden + hidden, side * width * hidden, 2 * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=integer(vision, "vt_intermediate_size", "intermediate_size", default=4304),
            heads=integer(vision, "vt_num_attention_heads", "num_attention_heads", default=16),
            depth=integer(vision, "vt_num_hidden_layers", "num_hidden_layers", default=27),
        )
    )
    return layer + parameters(2 * hidden) + dense(merged, merged) + dense(merged, out)


def glm4v_tower(config: Config) -> Layer:
    """GLM-4.1V and 4.5V: gated blocks as wide as the language model, a strided convolution, a gated merger."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "hidden_size", default=1536)
    out = integer(vision, "out_hidden_size", default=hidden_size(section(config, "text_config")))
    patch = integer(vision, "patch_size", default=14) or 14
    side = integer(vision, "image_size", default=336) // patch
    frames = integer(vision, "temporal_patch_size", default=2)
    merge = integer(vision, "spatial_merge_size", default=2) ** 2
    context = divided(integer(vision, "intermediate_size", default=13696))
    layer = parameters(3 * frames * patch**2 * hidden + hidden, side * side * hidden, 2 * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=out,
            heads=integer(vision, "num_heads", default=12),
            depth=integer(vision, "depth", default=24),
            gated=True,
            attention_bias=flag(vision, "attention_bias"),
            output_bias=False,
            mlp_bias=False,
            norm_bias=False,
        )
    )
    layer += parameters(merge * hidden * out + out, 2 * out)
    return (
        *layer,
        Linear(name=NAME + ".merger.proj", inputs=whole(out), outputs=(divided(out),), quantizable=False),
        Linear(name=NAME + ".merger.gate_up", inputs=whole(out), outputs=(context, context), quantizable=False),
        Linear(name=NAME + ".merger.down", inputs=context, outputs=(whole(out),), quantizable=False),
    )


def kimi_k3_tower(config: Config) -> Layer:
    """Kimi K3: MoonViT without biases and with wider heads, RMS norms and a second-generation patch merger."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "vt_hidden_size", default=1024)
    heads = integer(vision, "vt_num_attention_heads", default=12)
    patch = integer(vision, "patch_size", default=14)
    merged = 4 * hidden
    out = hidden_size(section(config, "text_config"))
    bias = flag(vision, "linear_bias")
    depth = integer(vision, "vt_num_hidden_layers", default=27)
    layer = parameters(3 * patch**2 * hidden, 64 * 64 * hidden, hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=integer(vision, "vt_intermediate_size", default=4096),
            heads=heads,
            head_dim=integer(vision, "qkv_hidden_size", default=hidden) // max(1, heads),
            depth=depth,
            attention_bias=flag(vision, "attn_bias"),
            output_bias=bias,
            mlp_bias=bias,
            norm_bias=False,
            whole_unless_heads_divide=True,
        )
    )
    return layer + dense(merged, merged, bias=bias) + dense(merged, out, bias=bias) + parameters(out)


def minimax_m3_tower(config: Config) -> Layer:
    """MiniMax M3: a CLIP tower over patches of two frames, a projector and a patch merger."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "hidden_size", default=1280)
    inner = integer(vision, "intermediate_size", default=4 * hidden)
    patch = integer(vision, "patch_size", default=14)
    out = hidden_size(section(config, "text_config"))
    projected = integer(config, "projector_hidden_size", default=out)
    compression = section(vision, "img_token_compression_config")
    frames = integer(compression, "temporal_patch_size", default=2)
    merge = integer(compression, "spatial_merge_size", default=2) ** 2
    layer = parameters(3 * frames * patch**2 * hidden, 2 * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=inner,
            heads=integer(vision, "num_attention_heads", default=16),
            depth=integer(vision, "num_hidden_layers", default=32),
        )
    )
    return layer + divided_pair(hidden, projected, out) + divided_pair(merge * out, projected, out)


def gemma4_tower(config: Config) -> Layer:
    """Gemma 4: a gated tower of Hugging Face's own code, whole on every rank."""
    vision = section(config, "vision_config")
    out = hidden_size(section(config, "text_config"))
    if not vision:
        return ()
    hidden, inner = integer(vision, "hidden_size", default=768), integer(vision, "intermediate_size", default=3072)
    depth, heads = integer(vision, "num_hidden_layers", default=16), integer(vision, "num_attention_heads", default=12)
    kv_heads = integer(vision, "num_key_value_heads", default=heads)
    dim = integer(vision, "head_dim", default=hidden // max(1, heads))
    layer = hidden * dim * (2 * heads + 2 * kv_heads) + 3 * hidden * inner + 4 * hidden + 2 * dim
    patch = integer(vision, "patch_size", default=16)
    positions = 2 * integer(vision, "position_embedding_size", default=10240) * hidden
    return parameters(depth * layer, 3 * patch**2 * hidden, positions, hidden * out)


def llama4_tower(config: Config) -> Layer:
    """Llama 4: a tower of pixel-shuffled patches with a projector of two layers."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "hidden_size", default=768)
    patch, side = integer(vision, "patch_size", default=14), integer(vision, "image_size", default=448)
    positions = (side // max(1, patch)) ** 2 + 1
    inner = integer(vision, "intermediate_size", default=5632)
    projected = integer(vision, "projector_input_dim", default=4096)
    out = integer(vision, "projector_output_dim", default=4096)
    text_hidden = hidden_size(section(config, "text_config"))
    layer = parameters(positions * hidden, hidden, 4 * hidden)
    layer += (
        Linear(
            name=NAME + ".patch_embedding",
            inputs=whole(3 * patch**2),
            outputs=(divided(hidden),),
            quantizable=False,
        ),
    )
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=inner,
            heads=integer(vision, "num_attention_heads", default=16),
            depth=integer(vision, "num_hidden_layers", default=34),
        )
    )
    layer += divided_pair(inner, projected, out, bias=False)
    return (
        *layer,
        Linear(
            name=NAME + ".projector",
            inputs=whole(integer(vision, "vision_output_dim", default=7680)),
            outputs=(divided(text_hidden),),
            quantizable=False,
        ),
    )


# MobileNetV5-300M and the speech encoder; both are the same in every Gemma 3n, run by Hugging Face's own code.
_GEMMA3N_TOWER_PARAMETERS = 975_554_400


def gemma3n_tower(config: Config) -> Layer:
    """Gemma 3n: towers whole on every rank, and one divided embedder for pictures and one for sound."""
    out = hidden_size(section(config, "text_config"))
    layer = parameters(_GEMMA3N_TOWER_PARAMETERS)
    for name, width in (("vision_config", 2048), ("audio_config", 1536)):
        part = section(config, name)
        hidden = integer(part, "hidden_size", default=width)
        rows = integer(part, "vocab_size", default=128)
        layer += (
            Vocabulary(name=f"{name}.embedding", rows=rows, columns=hidden),
            Linear(name=f"{name}.projection", inputs=divided(hidden), outputs=(whole(out),), quantizable=False),
        )
    return layer

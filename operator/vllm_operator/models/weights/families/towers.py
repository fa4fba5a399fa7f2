"""Vision towers and their projectors, as vLLM shards them; the first pipeline stage holds them.

Sources, vLLM 0.33: `models/{qwen2_vl,qwen2_5_vl,qwen3_vl,siglip,clip,pixtral,interns1_vit,intern_vit}.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.weights.families import native_towers
from vllm_operator.models.weights.families.decoder import hidden_size
from vllm_operator.models.weights.families.tower_parts import Blocks, blocks, dense, divided_pair, parameters
from vllm_operator.models.weights.fields import flag, integer, items, section, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.models.weights.fields import Config
    from vllm_operator.models.weights.modules import Layer

_MOST_MERGERS = 64


def qwen3_vl_tower(config: Config) -> Layer:
    """Qwen3-VL and Qwen3.5: learned positions, a merger, and one more merger for each deepstack layer."""
    vision = section(config, "vision_config")
    hidden, inner = integer(vision, "hidden_size"), integer(vision, "intermediate_size")
    patch = integer(vision, "patch_size", default=16)
    merged = hidden * integer(vision, "spatial_merge_size", default=2) ** 2
    out = integer(vision, "out_hidden_size", default=hidden)
    pixels = integer(vision, "in_channels", default=3) * integer(vision, "temporal_patch_size", default=2) * patch**2
    layer = parameters(pixels * hidden + hidden, integer(vision, "num_position_embeddings") * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=inner,
            heads=integer(vision, "num_heads", default=16),
            depth=integer(vision, "depth"),
        )
    )
    layer += parameters(2 * hidden) + divided_pair(merged, merged, out)
    for _ in items(vision, "deepstack_visual_indexes")[:_MOST_MERGERS]:
        layer += parameters(2 * merged) + divided_pair(merged, merged, out)
    return layer


def qwen2_5_vl_tower(config: Config) -> Layer:
    """Qwen2.5-VL: gated blocks with RMS norms."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "hidden_size", default=1280)
    merged = hidden * integer(vision, "spatial_merge_size", default=2) ** 2
    patch = integer(vision, "patch_size", "spatial_patch_size", default=14)
    pixels = integer(vision, "in_channels", "in_chans", default=3) * patch**2
    pixels *= integer(vision, "temporal_patch_size", default=2)
    return (
        parameters(pixels * hidden, hidden)
        + blocks(
            Blocks(
                hidden=hidden,
                intermediate=integer(vision, "intermediate_size", default=3420),
                heads=integer(vision, "num_heads", default=16),
                depth=integer(vision, "depth", default=32),
                gated=True,
                norm_bias=False,
            )
        )
        + divided_pair(merged, merged, integer(vision, "out_hidden_size", default=hidden_size(config)))
    )


def qwen2_vl_tower(config: Config) -> Layer:
    """Qwen2-VL."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "embed_dim", default=1280)
    ratio = vision.get("mlp_ratio", 4)
    inner = int(hidden * ratio) if isinstance(ratio, (int, float)) and 0 < ratio < 64 else 4 * hidden
    merged = hidden * integer(vision, "spatial_merge_size", default=2) ** 2
    patch = integer(vision, "patch_size", default=14)
    pixels = integer(vision, "in_channels", "in_chans", default=3) * patch**2
    pixels *= integer(vision, "temporal_patch_size", default=2)
    return (
        parameters(pixels * hidden, 2 * hidden)
        + blocks(
            Blocks(
                hidden=hidden,
                intermediate=inner,
                heads=integer(vision, "num_heads", default=16),
                depth=integer(vision, "depth", default=32),
            )
        )
        + divided_pair(merged, merged, integer(vision, "hidden_size", default=hidden_size(config)))
    )


def image_transformer(vision: Config, *, class_token: bool, pre_norm: bool, post_norm: bool) -> Layer:
    """A CLIP or SigLIP tower: convolution, learned positions, biased blocks."""
    hidden = integer(vision, "hidden_size", default=1024)
    patch = integer(vision, "patch_size", default=14) or 14
    side = integer(vision, "image_size", default=336) // patch
    positions = side * side + (1 if class_token else 0)
    conv = integer(vision, "num_channels", default=3) * patch**2 * hidden
    sizes = [conv + (0 if class_token else hidden), positions * hidden]
    if class_token:
        sizes.append(hidden)
    sizes.append(2 * hidden * (int(pre_norm) + int(post_norm)))
    return parameters(*sizes) + blocks(
        Blocks(
            hidden=hidden,
            intermediate=integer(vision, "intermediate_size", default=4 * hidden),
            heads=integer(vision, "num_attention_heads", default=16),
            depth=integer(vision, "num_hidden_layers", default=24),
        )
    )


def gemma3_tower(config: Config) -> Layer:
    """Gemma 3: SigLIP and one projection matrix."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "hidden_size", default=1152)
    out = hidden_size(section(config, "text_config")) or 2304
    tower = image_transformer(
        {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            **vision,
        },
        class_token=False,
        pre_norm=False,
        post_norm=True,
    )
    return tower + parameters(hidden * out, hidden)


def llava_tower(config: Config) -> Layer:
    """LLaVA and LLaVA-NeXT: CLIP or SigLIP up to the layer that is read, and a divided projector."""
    vision = dict(section(config, "vision_config"))
    clip = "clip" in text(vision, "model_type") or not text(vision, "model_type")
    depth = integer(vision, "num_hidden_layers", default=24)
    used = _layers_read(config, depth)
    vision["num_hidden_layers"] = used
    hidden = integer(vision, "hidden_size", default=1024)
    text_hidden = hidden_size(section(config, "text_config")) or 4096
    tower = image_transformer(vision, class_token=clip, pre_norm=clip, post_norm=used == depth)
    levels = len(items(config, "vision_feature_layer")) or 1
    bias = flag(config, "multimodal_projector_bias", default=True)
    layer = tower + divided_pair(hidden * levels, text_hidden, text_hidden, bias=bias)
    if config.get("model_type") == "llava_next":
        layer += parameters(text_hidden)
    return layer


def _layers_read(config: Config, depth: int) -> int:
    """Blocks up to the deepest feature layer that the projector reads; vLLM builds no more."""
    chosen = items(config, "vision_feature_layer") or (config.get("vision_feature_layer", -2),)
    used = [depth + index + 1 if index < 0 else index for index in chosen if isinstance(index, int)]
    return max(1, min(depth, max(used, default=depth)))


def intern_hf_tower(config: Config) -> Layer:
    """InternVL in the Hugging Face format, InternS1: attention whole on every rank, the rest divided."""
    vision = section(config, "vision_config")
    hidden, heads = integer(vision, "hidden_size", default=1024), integer(vision, "num_attention_heads", default=16)
    patch, side = _pair(vision, "patch_size", 14), _pair(vision, "image_size", 448)
    positions = (side // patch) ** 2 + 1
    merged = int(hidden * 4)
    out = hidden_size(section(config, "text_config"))
    layer = parameters(3 * patch**2 * hidden + hidden, hidden, positions * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=integer(vision, "intermediate_size", default=4 * hidden),
            heads=heads,
            depth=integer(vision, "num_hidden_layers", default=24),
            attention_bias=flag(vision, "attention_bias", default=True),
            norm_bias=text(vision, "norm_type") != "rms_norm",
            layer_scales=2,
            qk_norm=2 * hidden if flag(vision, "use_qk_norm") else 0,
            attention_divided=False,
        )
    )
    return layer + parameters(2 * merged) + dense(merged, out) + dense(out, out)


def intern_chat_tower(config: Config) -> Layer:
    """InternVL in its own format (`internvl_chat`)."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "hidden_size", default=1024)
    patch, side = _pair(vision, "patch_size", 14), _pair(vision, "image_size", 448)
    positions = (side // patch) ** 2 + 1
    merged = 4 * hidden
    out = hidden_size(section(config, "llm_config", "text_config"))
    depth = integer(vision, "num_hidden_layers", default=24)
    layer = parameters(3 * patch**2 * hidden + hidden, hidden, positions * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=integer(vision, "intermediate_size", default=4 * hidden),
            heads=integer(vision, "num_attention_heads", default=16),
            depth=depth,
            attention_bias=flag(vision, "qkv_bias", default=True),
            norm_bias=text(vision, "norm_type") != "rms_norm",
            layer_scales=2,
            qk_norm=2 * hidden if flag(vision, "qk_normalization") else 0,
        )
    )
    return layer + parameters(2 * merged) + dense(merged, out) + dense(out, out)


def _pair(vision: Config, name: str, default: int) -> int:
    values = items(vision, name)
    if values and isinstance(values[0], int) and 0 < values[0] < 10**6:
        return values[0]
    return integer(vision, name, default=default) or default


def pixtral_tower(config: Config) -> Layer:
    """Mistral 3 with its Pixtral tower: no biases, gated blocks, a patch merger before the projector."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "hidden_size", default=1024)
    heads = integer(vision, "num_attention_heads", default=16)
    patch = integer(vision, "patch_size", default=14)
    out = hidden_size(section(config, "text_config"))
    merge = integer(config, "spatial_merge_size", default=1) or 1
    bias = flag(config, "multimodal_projector_bias")
    layer = parameters(3 * patch**2 * hidden, hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=integer(vision, "intermediate_size", default=4 * hidden),
            heads=heads,
            head_dim=integer(vision, "head_dim"),
            depth=integer(vision, "num_hidden_layers", default=24),
            gated=True,
            attention_bias=False,
            output_bias=False,
            mlp_bias=False,
            norm_bias=False,
        )
    )
    if config.get("model_type") == "mistral3":
        layer += parameters(hidden) + dense(hidden * merge * merge, hidden, bias=False)
    return layer + divided_pair(hidden, out, out, bias=bias)


TOWERS: dict[str, Callable[[Config], Layer]] = {
    "qwen2_vl": qwen2_vl_tower,
    "qwen2_5_vl": qwen2_5_vl_tower,
    "qwen3_vl": qwen3_vl_tower,
    "qwen3_vl_moe": qwen3_vl_tower,
    "qwen3_5": qwen3_vl_tower,
    "qwen3_5_moe": qwen3_vl_tower,
    "gemma3": gemma3_tower,
    "llava": llava_tower,
    "llava_next": llava_tower,
    "vipllava": llava_tower,
    "internvl": intern_hf_tower,
    "interns1": intern_hf_tower,
    "internvl_chat": intern_chat_tower,
    "mistral3": pixtral_tower,
    "kimi_vl": native_towers.moon_tower,
    "kimi_k25": native_towers.moon_tower,
    "glm4v": native_towers.glm4v_tower,
    "glm4v_moe": native_towers.glm4v_tower,
    "kimi_k3": native_towers.kimi_k3_tower,
    "minimax_m3_vl": native_towers.minimax_m3_tower,
    "gemma4": native_towers.gemma4_tower,
    "gemma3n": native_towers.gemma3n_tower,
    "llama4": native_towers.llama4_tower,
}

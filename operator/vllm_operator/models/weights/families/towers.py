"""Vision towers and their projectors, as vLLM shards them.

Towers are held by the first pipeline stage. Unless a function says otherwise the blocks are divided over the ranks
(`--mm-encoder-tp-mode weights`, the default) and embeddings and projectors are whole on every rank.
Sources, vLLM 0.33: `models/{qwen2_vl,qwen2_5_vl,qwen3_vl,siglip,clip,pixtral,interns1_vit,intern_vit,moonvit}.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vllm_operator.models.weights.families.decoder import hidden_size
from vllm_operator.models.weights.fields import flag, integer, items, section, text
from vllm_operator.models.weights.modules import Extent, Layer, Linear, Module, Tensor, Vocabulary, divided, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.models.weights.fields import Config

NAME = "vision_tower"
_MOST_MERGERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The transformer blocks of a tower."""

    hidden: int
    intermediate: int
    heads: int
    depth: int
    head_dim: int = 0
    gated: bool = False
    attention_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    norm_bias: bool = True
    norms: int = 2
    qk_norm: int = 0
    """Elements of the norms of queries and keys together."""
    layer_scales: int = 0
    whole_unless_heads_divide: bool = False
    """The tower runs whole on every rank when its heads do not divide by them."""
    attention_divided: bool = True
    mlp_divided: bool = True


def blocks(shape: Blocks) -> Layer:
    """All blocks of a tower."""
    spread: Callable[..., Extent] = divided if shape.attention_divided else _undivided
    mlp = divided if shape.mlp_divided else whole
    head_dim = shape.head_dim or shape.hidden // max(1, shape.heads)
    heads = spread(shape.heads, head_dim)
    up = mlp(shape.intermediate)
    if shape.whole_unless_heads_divide:
        heads, up = (replace(extent, whole_unless_divisible_by=shape.heads) for extent in (heads, up))
    name, count = NAME + ".blocks", shape.depth
    vectors = shape.norms * (2 if shape.norm_bias else 1) + shape.layer_scales
    modules: list[Module] = [
        Tensor(name=name + ".norms", extents=(whole(shape.hidden),), count=count * vectors),
        Linear(
            name=name + ".attn.qkv",
            inputs=whole(shape.hidden),
            outputs=(heads, heads, heads),
            bias=shape.attention_bias,
            count=count,
            quantizable=False,
        ),
        Linear(
            name=name + ".attn.proj",
            inputs=heads,
            outputs=(whole(shape.hidden),),
            bias=shape.output_bias,
            count=count,
            quantizable=False,
        ),
        Linear(
            name=name + ".mlp.up",
            inputs=whole(shape.hidden),
            outputs=(up, up) if shape.gated else (up,),
            bias=shape.mlp_bias,
            count=count,
            quantizable=False,
        ),
        Linear(
            name=name + ".mlp.down",
            inputs=up,
            outputs=(whole(shape.hidden),),
            bias=shape.mlp_bias,
            count=count,
            quantizable=False,
        ),
    ]
    if shape.qk_norm:
        modules.append(Tensor(name=name + ".qk_norm", extents=(whole(shape.qk_norm),), count=count))
    return tuple(modules)


def _undivided(units: int, width: int = 1) -> Extent:
    return whole(units * width)


def _parameters(*shapes: int) -> Layer:
    """Vectors and tables that every rank holds whole."""
    return (Tensor(name=NAME + ".embeddings", extents=(whole(sum(shapes)),)),)


def _dense(inputs: int, outputs: int, *, bias: bool = True) -> Layer:
    """A projection that every rank holds whole."""
    return (
        Linear(
            name=NAME + ".projector",
            inputs=whole(inputs),
            outputs=(whole(outputs),),
            bias=bias,
            quantizable=False,
        ),
    )


def _divided_pair(inputs: int, inner: int, outputs: int, *, bias: bool = True) -> Layer:
    """A projector of two layers, the first divided by its outputs, the second by its inputs."""
    middle = divided(inner)
    return (
        Linear(name=NAME + ".merger.0", inputs=whole(inputs), outputs=(middle,), bias=bias, quantizable=False),
        Linear(name=NAME + ".merger.2", inputs=middle, outputs=(whole(outputs),), bias=bias, quantizable=False),
    )


def qwen3_vl_tower(config: Config) -> Layer:
    """Qwen3-VL and Qwen3.5: learned positions, a merger, and one more merger for each deepstack layer."""
    vision = section(config, "vision_config")
    hidden, inner = integer(vision, "hidden_size"), integer(vision, "intermediate_size")
    patch = integer(vision, "patch_size", default=16)
    merged = hidden * integer(vision, "spatial_merge_size", default=2) ** 2
    out = integer(vision, "out_hidden_size", default=hidden)
    pixels = integer(vision, "in_channels", default=3) * integer(vision, "temporal_patch_size", default=2) * patch**2
    layer = _parameters(pixels * hidden + hidden, integer(vision, "num_position_embeddings") * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=inner,
            heads=integer(vision, "num_heads", default=16),
            depth=integer(vision, "depth"),
        )
    )
    layer += _parameters(2 * hidden) + _divided_pair(merged, merged, out)
    for _ in items(vision, "deepstack_visual_indexes")[:_MOST_MERGERS]:
        layer += _parameters(2 * merged) + _divided_pair(merged, merged, out)
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
        _parameters(pixels * hidden, hidden)
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
        + _divided_pair(merged, merged, integer(vision, "out_hidden_size", default=hidden_size(config)))
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
        _parameters(pixels * hidden, 2 * hidden)
        + blocks(
            Blocks(
                hidden=hidden,
                intermediate=inner,
                heads=integer(vision, "num_heads", default=16),
                depth=integer(vision, "depth", default=32),
            )
        )
        + _divided_pair(merged, merged, integer(vision, "hidden_size", default=hidden_size(config)))
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
    return _parameters(*sizes) + blocks(
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
    return tower + _parameters(hidden * out, hidden)


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
    layer = tower + _divided_pair(hidden * levels, text_hidden, text_hidden, bias=bias)
    if config.get("model_type") == "llava_next":
        layer += _parameters(text_hidden)
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
    layer = _parameters(3 * patch**2 * hidden + hidden, hidden, positions * hidden)
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
    return layer + _parameters(2 * merged) + _dense(merged, out) + _dense(out, out)


def intern_chat_tower(config: Config) -> Layer:
    """InternVL in its own format (`internvl_chat`)."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "hidden_size", default=1024)
    patch, side = _pair(vision, "patch_size", 14), _pair(vision, "image_size", 448)
    positions = (side // patch) ** 2 + 1
    merged = 4 * hidden
    out = hidden_size(section(config, "llm_config", "text_config"))
    depth = integer(vision, "num_hidden_layers", default=24)
    layer = _parameters(3 * patch**2 * hidden + hidden, hidden, positions * hidden)
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
    return layer + _parameters(2 * merged) + _dense(merged, out) + _dense(out, out)


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
    layer = _parameters(3 * patch**2 * hidden, hidden)
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
        layer += _parameters(hidden) + _dense(hidden * merge * merge, hidden, bias=False)
    return layer + _divided_pair(hidden, out, out, bias=bias)


def moon_tower(config: Config) -> Layer:
    """Kimi-VL and Kimi-K2.5 with MoonViT."""
    vision = section(config, "vision_config")
    hidden = integer(vision, "vt_hidden_size", "hidden_size", default=1152)
    patch = integer(vision, "patch_size", default=14)
    side = integer(vision, "init_pos_emb_height", default=64)
    width = integer(vision, "init_pos_emb_width", default=64)
    merged = 4 * hidden
    out = hidden_size(section(config, "text_config")) or integer(vision, "text_hidden_size")
    layer = _parameters(3 * patch**2 * hidden + hidden, side * width * hidden, 2 * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=integer(vision, "vt_intermediate_size", "intermediate_size", default=4304),
            heads=integer(vision, "vt_num_attention_heads", "num_attention_heads", default=16),
            depth=integer(vision, "vt_num_hidden_layers", "num_hidden_layers", default=27),
        )
    )
    return layer + _parameters(2 * hidden) + _dense(merged, merged) + _dense(merged, out)


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
    layer = _parameters(3 * patch**2 * hidden, 64 * 64 * hidden, hidden)
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
    return layer + _dense(merged, merged, bias=bias) + _dense(merged, out, bias=bias) + _parameters(out)


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
    layer = _parameters(3 * frames * patch**2 * hidden, 2 * hidden)
    layer += blocks(
        Blocks(
            hidden=hidden,
            intermediate=inner,
            heads=integer(vision, "num_attention_heads", default=16),
            depth=integer(vision, "num_hidden_layers", default=32),
        )
    )
    return layer + _divided_pair(hidden, projected, out) + _divided_pair(merge * out, projected, out)


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
    return _parameters(depth * layer, 3 * patch**2 * hidden, positions, hidden * out)


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
    layer = _parameters(positions * hidden, hidden, 4 * hidden)
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
    layer += _divided_pair(inner, projected, out, bias=False)
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
    layer = _parameters(_GEMMA3N_TOWER_PARAMETERS)
    for name, width in (("vision_config", 2048), ("audio_config", 1536)):
        part = section(config, name)
        hidden = integer(part, "hidden_size", default=width)
        rows = integer(part, "vocab_size", default=128)
        layer += (
            Vocabulary(name=f"{name}.embedding", rows=rows, columns=hidden),
            Linear(name=f"{name}.projection", inputs=divided(hidden), outputs=(whole(out),), quantizable=False),
        )
    return layer


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
    "kimi_vl": moon_tower,
    "kimi_k25": moon_tower,
    "kimi_k3": kimi_k3_tower,
    "minimax_m3_vl": minimax_m3_tower,
    "gemma4": gemma4_tower,
    "gemma3n": gemma3n_tower,
    "llama4": llama4_tower,
}

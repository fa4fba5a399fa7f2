"""What a profile run feeds a multimodal model's encoder: how many tokens, and what each keeps alive.

vLLM encodes a batch of the modality with the largest items, as many as the encoder's budget holds, and keeps what comes
out through the forward pass (vllm/v1/worker/gpu_model_runner.py `profile_run`, vllm/v1/core/encoder_cache_manager.py
`compute_mm_encoder_budget`). How large an item gets is the processor's choice, not the config's: the rules below are
those of vllm/model_executor/models/{qwen2_vl,qwen3_vl,gemma3_mm,llama4,interns1,pixtral,llava_next}.py, held against
start-up logs. Nothing caps an item by `max_model_len` (vllm#27992).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.models.memory.constants import ENCODER_HIDDEN_COPIES, ENCODER_LARGEST_ITEM_TOKENS
from vllm_operator.models.weights.fields import integer, items, section, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.models.facts import ModelFacts
    from vllm_operator.models.settings import ResolvedSettings
    from vllm_operator.models.weights.fields import Config

_GATED: Final = frozenset({"silu", "swiglu"})
"""Activations of encoder layers that gate: Qwen2.5-VL's and Pixtral's. Qwen3-VL's are plain."""
_ONE_PATCH_A_TOKEN: Final = ("llava", "granite", "paligemma", "molmo", "ultravox", "qwen2_audio", "blip", "fuyu")
"""Families that merge no patches into one token."""
_PATCHES_PER_TOKEN: Final = 4
"""What most others merge (two by two)."""
_RGB: Final = 3
_WIDE_AS_THE_OUTPUT: Final = ("glm4v", "glm_ocr")
"""Families whose encoder layers are as wide as its output; `intermediate_size` is the merger's (glm4_1v.py)."""

_LONG_VIDEO: Final = ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni")
"""Their dummy video grows with `max_model_len`: two frames of the largest size are one more image's worth of tokens."""
_VIDEO_FRAMES: Final = 16
"""`_MAX_FRAMES_PER_VIDEO` of qwen2_vl.py."""
_FRAMES_PER_ITEM: Final = 2
_VIDEO_BESIDE_IMAGES_UNTIL: Final = (0, 10, 0)
"""Until then the video had what an image left of `max_model_len`: 98,304 tokens of 128,000 in logs of 0.8."""
_V1_SINCE: Final = (0, 8, 0)
"""V0 encoded an image and a video in one batch."""

_SMALL_FRAMES: Final = ("qwen2_5_omni",)
_SMALL_FRAMES_TOKENS: Final = 8192
"""Its processor shrinks the dummy video's frames: 32,768 tokens took less than the sampler (vllm#25970)."""

_SPARSE_VIDEO: Final = ("qwen3_vl",)
_SPARSE_VIDEO_TOKENS: Final = 153_600
_SPARSE_VIDEO_SINCE: Final = (0, 11, 0)
_SPARSE_VIDEO_UNTIL: Final = (0, 13, 0)
"""Qwen3-VL's placeholders of a whole video were all kept, embeddings or not, until pull request 30475."""

_IMAGE_LIMIT_UNTIL: Final = (0, 10, 0)
_MANY: Final = 999
"""Items of one kind that a prompt may hold by default; one until 0.10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderWidths:
    """Elements that each language token of an encoded item keeps alive on one GPU."""

    live: int
    """At the widest point of an encoder layer, the pixels included."""
    output: int
    """Of what the encoder hands over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLoad:
    """Language tokens of the dummy items."""

    encoded: int
    kept: int
    """Tokens that the encoder cache holds while the language model runs."""


def encoder_widths(facts: ModelFacts, resolved: ResolvedSettings) -> EncoderWidths | None:
    """What one token costs; None for models without an encoder, or where no media are let in."""
    if not facts.is_multimodal or not encodes_media(resolved):
        return None
    vision = section(facts.config, "vision_config")
    whole = resolved.flags.get("mm_encoder_tp_mode") == "data"
    ranks = 1 if whole else resolved.tensor_parallel_size
    hidden = integer(vision, "hidden_size", "embed_dim")
    stated = "out_hidden_size" if facts.model_type.startswith(_WIDE_AS_THE_OUTPUT) else "intermediate_size"
    feed_forward = integer(vision, stated) or 4 * hidden
    tensors = 3 if text(vision, "hidden_act") in _GATED else 2
    patch = _edge(vision, "patch_size")
    pixels = _RGB * patch * patch * (integer(vision, "temporal_patch_size") or 1)
    per_patch = tensors * feed_forward // ranks + ENCODER_HIDDEN_COPIES * hidden + pixels
    deep_layers = vision.get("deepstack_visual_indexes")
    outputs = 1 + (len(deep_layers) if isinstance(deep_layers, list) else 0)
    return EncoderWidths(live=_patches_per_token(facts) * per_patch, output=outputs * facts.hidden_size)


def encoder_load(facts: ModelFacts, resolved: ResolvedSettings) -> EncoderLoad:
    """How many tokens the profile run encodes and keeps."""
    release, limits = resolved.version.release, media_limits(resolved.flags)
    item = _image_tokens(facts)
    if facts.model_type.startswith(_LONG_VIDEO) and limits.get("video", 1) > 0:
        video = _long_video_tokens(resolved, item)
        item = item + video if release < _V1_SINCE else max(item, video)
    batch = resolved.max_num_batched_tokens if release >= _V1_SINCE else item
    per_prompt = limits.get("image", 1 if release < _IMAGE_LIMIT_UNTIL else _MANY)
    count = max(1, min(batch // item, resolved.max_num_seqs * max(1, per_prompt)))
    encoded = kept = count * item
    if facts.model_type.startswith(_SMALL_FRAMES):
        encoded = min(encoded, _SMALL_FRAMES_TOKENS)
    sparse = facts.model_type.startswith(_SPARSE_VIDEO) and limits.get("video", 1) > 0
    if sparse and _SPARSE_VIDEO_SINCE <= release < _SPARSE_VIDEO_UNTIL:
        kept += _SPARSE_VIDEO_TOKENS
    return EncoderLoad(encoded=encoded, kept=kept)


def takes_any_size(facts: ModelFacts) -> bool:
    """Whether images have no fixed size: what the largest one costs is then a rule, not a measurement."""
    vision = section(facts.config, "vision_config")
    if not integer(vision, "spatial_merge_size"):
        return False
    return bool(integer(vision, "temporal_patch_size")) or not _edge(vision, "image_size")


def encodes_media(resolved: ResolvedSettings) -> bool:
    """Whether the profile run encodes anything at all."""
    flags = resolved.flags
    if flags.get("language_model_only") or flags.get("skip_mm_profiling"):
        return False
    limits = media_limits(flags)
    return not limits or any(limits.values())


def media_limits(flags: Mapping[str, object]) -> dict[str, int]:
    """`--limit-mm-per-prompt` in any of its spellings: an object, its JSON, `image=4`, or `.image 4` flag by flag."""
    stated = flags.get("limit_mm_per_prompt")
    if isinstance(stated, str):
        stated = _object(stated)
    limits = dict(stated) if isinstance(stated, dict) else {}
    for name, value in flags.items():
        if name.startswith("limit_mm_per_prompt."):
            limits[name.partition(".")[2]] = value
    return {name: count for name, value in limits.items() if (count := _count(value)) is not None}


def _object(stated: str) -> dict[str, object]:
    try:
        parsed = json.loads(stated)
    except ValueError:
        pairs = (pair.partition("=") for pair in stated.split(","))
        return {name.strip(): value.strip() for name, _, value in pairs}
    return parsed if isinstance(parsed, dict) else {}


def _count(value: object) -> int | None:
    if isinstance(value, dict):
        value = value.get("count")
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return max(0, value)
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else None


def _long_video_tokens(resolved: ResolvedSettings, image: int) -> int:
    """One image's worth of tokens for every two frames that `max_model_len` holds."""
    room = resolved.max_model_len - (image if resolved.version.release < _VIDEO_BESIDE_IMAGES_UNTIL else 0)
    fewest = 0 if resolved.version.release < _V1_SINCE else 1
    return image * max(fewest, min(_VIDEO_FRAMES // _FRAMES_PER_ITEM, room // image))


def _image_tokens(facts: ModelFacts) -> int:
    """Tokens of the largest image: the processor's limit where sizes are free, else what the fixed size makes."""
    config = facts.config
    if takes_any_size(facts):
        return ENCODER_LARGEST_ITEM_TOKENS
    vision = section(config, "vision_config")
    fixed = integer(config, "mm_tokens_per_image", "image_seq_length", "vision_soft_tokens_per_image")
    patches = (_edge(vision, "image_size") // max(1, _edge(vision, "patch_size"))) ** 2
    tokens = fixed or max(1, patches // _patches_per_token(facts))
    return tokens * _tiles(config, _edge(vision, "image_size"))


def _tiles(config: Config, edge: int) -> int:
    """Tiles of the largest grid that LLaVA-NeXT's `image_grid_pinpoints` allow, and the whole picture once more."""
    grids = [grid for grid in items(config, "image_grid_pinpoints") if isinstance(grid, list) and len(grid) == 2]
    areas = [height * width for height, width in grids if isinstance(height, int) and isinstance(width, int)]
    return 1 + max(areas) // (edge * edge) if areas and edge else 1


def _patches_per_token(facts: ModelFacts) -> int:
    """Patches that become one language token."""
    config = facts.config
    vision = section(config, "vision_config")
    merge = integer(vision, "spatial_merge_size") or integer(config, "spatial_merge_size", "scale_factor")
    merge = merge or integer(vision, "pooling_kernel_size")
    if merge:
        return merge * merge
    fixed = integer(config, "mm_tokens_per_image")
    edge, patch = _edge(vision, "image_size"), _edge(vision, "patch_size")
    if fixed and edge and patch:
        return max(1, (edge // patch) ** 2 // fixed)
    return 1 if facts.model_type.startswith(_ONE_PATCH_A_TOKEN) else _PATCHES_PER_TOKEN


def _edge(vision: Config, name: str) -> int:
    """A side in pixels, which some configs state twice (`[448, 448]`)."""
    value = vision.get(name)
    if isinstance(value, list) and value and isinstance(value[0], int) and not isinstance(value[0], bool):
        return max(0, value[0])
    return integer(vision, name)

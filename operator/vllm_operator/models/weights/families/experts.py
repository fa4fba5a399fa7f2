"""Layers of routed experts: which layers have them, how many, and what stands beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.models.weights.fields import flag, integer, integers, items
from vllm_operator.models.weights.modules import Experts, Layer, Linear, Module, Tensor, divided, whole

if TYPE_CHECKING:
    from vllm_operator.models.weights.families.traits import Traits
    from vllm_operator.models.weights.fields import Config


def expert_count(config: Config) -> int:
    """Routed experts of one layer; 0 for dense models."""
    count = integer(
        config, "n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts", "num_routed_experts"
    )
    return count if count > 1 else 0


def expert_intermediate_size(config: Config) -> int:
    """Width of one routed expert."""
    for name in ("moe_intermediate_size", "expert_intermediate_size"):
        values = items(config, name)
        if values and isinstance(values[0], int):
            return values[0]
    return integer(config, "moe_intermediate_size", "expert_intermediate_size", "intermediate_size")


def shared_intermediate_size(config: Config) -> int:
    """Width of the shared experts together; 0 without any."""
    direct = integer(config, "shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim")
    if direct:
        return direct
    listed = items(config, "num_shared_expert")
    count = integer(config, "n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
    if listed and isinstance(listed[0], int) and 0 < listed[0] < 1000:
        count = listed[0]
    return count * expert_intermediate_size(config)


def expert_layers(config: Config) -> tuple[bool, ...]:
    """For each layer, whether it has routed experts."""
    from vllm_operator.models.weights.families.decoder import layer_count

    count = layer_count(config)
    if not expert_count(config):
        return (False,) * count
    kinds = items(config, "mlp_layer_types")
    if len(kinds) >= count:
        return tuple(kind != "dense" for kind in kinds[:count])
    frequencies = items(config, "moe_layer_freq", "moe_layers_freq")
    if len(frequencies) >= count:
        return tuple(bool(value) for value in frequencies[:count])
    dense = integers(config, "mlp_only_layers")
    return tuple(index not in dense and _is_sparse(config, index, count) for index in range(count))


def _is_sparse(config: Config, index: int, count: int) -> bool:
    if "decoder_sparse_step" in config:
        step = integer(config, "decoder_sparse_step", default=1)
        return step > 0 and (index + 1) % step == 0
    if "expert_layer_period" in config:
        period = integer(config, "expert_layer_period", default=1) or 1
        return index % period == integer(config, "expert_layer_offset")
    if "interleave_moe_layer_step" in config:
        step = integer(config, "interleave_moe_layer_step", default=1)
        return step > 0 and (index + 1) % step == 0
    if "moe_layer_start_index" in config or "moe_layer_interval" in config:
        interval = integer(config, "moe_layer_interval", default=1) or 1
        start = integer(config, "moe_layer_start_index")
        end = integer(config, "moe_layer_end_index", default=count - 1)
        return (index + 1) % interval == 0 and start <= index <= end
    first = integer(config, "first_k_dense_replace", "num_dense_layers")
    frequency = integer(config, "moe_layer_freq", default=1) or 1
    return index >= first and index % frequency == 0


def moe_modules(config: Config, traits: Traits) -> Layer:
    """Router, routed experts and shared experts of one sparse layer."""
    from vllm_operator.models.weights.families.decoder import LAYER, feed_forward, hidden_size

    hidden, count = hidden_size(config), expert_count(config)
    name = LAYER + traits.moe
    latent = integer(config, "routed_expert_hidden_size")
    modules: list[Module] = [
        Linear(
            name=name + ".gate",
            inputs=whole(hidden),
            outputs=(whole(count),),
            bias=traits.router_bias,
            quantizable=False,
            dtype=traits.router_dtype,
        ),
        Experts(
            name=name + ".experts",
            count=count,
            hidden=latent or hidden,
            intermediate=expert_intermediate_size(config),
            gated=traits.gated,
            bias=traits.expert_bias,
            smallest_share=traits.smallest_expert_share,
        ),
    ]
    if has_routing_bias(config, traits):
        modules.append(Tensor(name=name + ".correction_bias", extents=(whole(count),), dtype="float32"))
    if latent:
        modules.extend(latent_projections(name, hidden=hidden, latent=latent))
    shared = shared_intermediate_size(config)
    if shared:
        modules.extend(feed_forward(f"{name}.{traits.shared}", hidden=hidden, intermediate=shared, gated=traits.gated))
        if traits.shared_expert_gate:
            modules.append(
                Linear(
                    name=name + ".shared_expert_gate",
                    inputs=whole(hidden),
                    outputs=(whole(1),),
                    quantizable=False,
                )
            )
    return tuple(modules)


def latent_projections(name: str, *, hidden: int, latent: int) -> Layer:
    """Projections around experts that work in a narrower space (Kimi K3); whole on every rank."""
    return (
        Linear(
            name=name + ".routed_expert_down_proj",
            inputs=whole(hidden),
            outputs=(whole(latent),),
            quantizable=False,
        ),
        Tensor(name=name + ".routed_expert_norm", extents=(whole(latent),)),
        Linear(name=name + ".routed_expert_up_proj", inputs=whole(latent), outputs=(whole(hidden),), quantizable=False),
    )


def has_routing_bias(config: Config, traits: Traits) -> bool:
    """Whether experts are chosen with a float32 correction bias."""
    if "topk_method" in config:
        return config.get("topk_method") == "noaux_tc"
    return flag(config, "use_routing_bias", "use_moe_router_bias", "moe_use_aux_free", default=traits.routing_bias)


__all__ = [
    "divided",
    "expert_count",
    "expert_intermediate_size",
    "expert_layers",
    "has_routing_bias",
    "moe_modules",
    "shared_intermediate_size",
]

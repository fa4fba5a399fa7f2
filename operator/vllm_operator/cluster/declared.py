"""Capacity that no node has yet: what Karpenter may launch, and what Kueue promises a quota of.

Nothing here can be requested now. It only lets a verdict say "fits when scaled" instead of "does not fit", so where a
declaration leaves the shape of a node open, the reading is generous and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster import reading
from vllm_operator.cluster.clouds import cloud_gpus
from vllm_operator.cluster.instance_types import find_instance_type
from vllm_operator.cluster.nodes import project_node, read_taints
from vllm_operator.cluster.products import find_product
from vllm_operator.cluster.records import Basis, GpuClass, GpuOffer, NodeRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.cluster.records import Taint

MOST_NODES: Final = 16
"""Offers made for one shape of an autoscaled pool: more would not change a verdict, and a pool may have no limit."""
USUAL_NODE: Final = 8
"""GPUs of one node where a declaration does not say; the largest common shape."""
RESOURCE_OF_VENDOR: Final[Mapping[str, str]] = {
    "nvidia": "nvidia.com/gpu",
    "amd": "amd.com/gpu",
    "habana": "habana.ai/gaudi",
    "google": "google.com/tpu",
    "aws": "aws.amazon.com/neuron",
}
_GPU_COUNTS: Final = ("karpenter.k8s.aws/instance-gpu-count", "karpenter.azure.com/sku-gpu-count")
_INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
_AZURE_TYPE: Final = "karpenter.azure.com/sku-name"
_FAMILIES: Final = ("karpenter.k8s.aws/instance-family", "eks.amazonaws.com/instance-family")
_CATEGORIES: Final = ("karpenter.k8s.aws/instance-category", "eks.amazonaws.com/instance-category")
_GPU_CATEGORIES: Final = frozenset({"g", "p", "gr"})
_GPU_NAMES: Final = (
    "karpenter.k8s.aws/instance-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
    "cloud.google.com/gke-accelerator",
    "nvidia.com/gpu.product",
)
_AWS_SIZES: Final = ("xlarge", *(f"{times}xlarge" for times in (2, 4, 8, 12, 16, 24, 32, 36, 48)), "metal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of node that a declaration may bring: how many of which GPU."""

    gpu_class: GpuClass
    gpus: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What one object declares. `limits` maps a resource to how many more of it may come; absent means no limit."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    taints: tuple[Taint, ...] = ()
    shapes: tuple[Shape, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict, hash=False)
    counts_existing: bool = False
    """The limit covers nodes that already exist and carry the labels (a Kueue quota), not only further ones."""


def project_node_pool(obj: Mapping[str, Any]) -> Declaration | None:
    """Return the GPU nodes that a Karpenter NodePool may launch; None when it states no GPU or is not ready."""
    spec = reading.mapping_at(obj, "spec")
    template = reading.mapping_at(spec, "template")
    template_spec = reading.mapping_at(template, "spec")
    if _condition(obj, "Ready") == "False":
        return None
    name = reading.text(reading.mapping_at(obj, "metadata").get("name")) or ""
    requirements = _allowed_values(reading.items_at(template_spec, "requirements"))
    labels = reading.strings(reading.mapping_at(template, "metadata", "labels"))
    shapes = tuple(_pool_shapes(f"NodePool {name}", requirements, labels))
    if not shapes:
        return None
    fixed = {key: values[0] for key, values in requirements.items() if len(values) == 1}
    used = reading.mapping_at(obj, "status", "resources")
    limits = {
        resource: max(0, limit - (reading.whole_quantity(used.get(resource)) or 0))
        for resource, value in reading.mapping_at(spec, "limits").items()
        if "/" in str(resource) and (limit := reading.whole_quantity(value)) is not None
    }
    return Declaration(
        name=f"nodepool/{name}",
        labels={**fixed, **labels, "karpenter.sh/nodepool": name},
        taints=read_taints(template_spec),
        shapes=shapes,
        limits=limits,
    )


def project_node_claim(obj: Mapping[str, Any]) -> Declaration | None:
    """Return the node that a NodeClaim is about to become; None once it has registered, or when it has no GPUs."""
    if _condition(obj, "Registered") == "True":
        return None
    metadata = reading.mapping_at(obj, "metadata")
    spec, status = reading.mapping_at(obj, "spec"), reading.mapping_at(obj, "status")
    name = f"nodeclaim/{reading.text(metadata.get('name')) or ''}"
    labels = reading.strings(reading.mapping_at(metadata, "labels"))
    node = project_node({"metadata": {"name": name, "labels": labels}, "status": status})
    if not node.gpus:
        return None
    return Declaration(
        name=name,
        labels=labels,
        taints=read_taints(spec),
        shapes=tuple(
            Shape(
                gpu_class=_as_declared(gpus.gpu_class), gpus=gpus.allocatable or gpus.capacity, warnings=gpus.warnings
            )
            for gpus in node.gpus
        ),
        limits={gpus.gpu_class.resource_name: gpus.allocatable or gpus.capacity for gpus in node.gpus},
    )


def project_flavors(
    flavors: Iterable[Mapping[str, Any]], queues: Iterable[Mapping[str, Any]]
) -> tuple[Declaration, ...]:
    """Return the GPU quotas of Kueue's ClusterQueues, by the ResourceFlavor that says on what nodes."""
    quotas: dict[str, dict[str, int]] = {}
    for queue in queues:
        for flavor, resource, quota in _quotas(queue):
            named = quotas.setdefault(flavor, {})
            named[resource] = named.get(resource, 0) + quota
    declarations = (_flavor(obj, quotas) for obj in flavors)
    return tuple(declaration for declaration in declarations if declaration is not None)


def declared_offers(declarations: Iterable[Declaration], existing: Iterable[GpuOffer]) -> tuple[GpuOffer, ...]:
    """Return an offer for each node that the declarations may bring, up to `MOST_NODES` of a shape."""
    existing = tuple(existing)
    offers: list[GpuOffer] = []
    for declaration in declarations:
        for shape in declaration.shapes:
            offers.extend(_shape_offers(declaration, shape, existing))
    return tuple(offers)


def _shape_offers(declaration: Declaration, shape: Shape, existing: tuple[GpuOffer, ...]) -> Iterator[GpuOffer]:
    resource = shape.gpu_class.resource_name
    limit = declaration.limits.get(resource)
    if limit is not None and declaration.counts_existing:
        limit -= sum(
            offer.capacity
            for offer in existing
            if offer.gpu_class.resource_name == resource
            and all(offer.node.labels.get(key) == value for key, value in declaration.labels.items())
        )
    gpus = shape.gpus if limit is None or not declaration.counts_existing else min(shape.gpus, limit)
    if gpus <= 0:
        return
    nodes = MOST_NODES if limit is None else min(MOST_NODES, limit // gpus)
    node = NodeRecord(
        name=declaration.name,
        ready=False,
        schedulable=True,
        labels=declaration.labels,
        taints=declaration.taints,
    )
    for _ in range(nodes):
        yield GpuOffer(
            node=node,
            gpu_class=shape.gpu_class,
            capacity=gpus,
            allocatable=gpus,
            free=0,
            usable=False,
            declared=True,
            warnings=shape.warnings,
        )


def _pool_shapes(owner: str, requirements: Mapping[str, tuple[str, ...]], labels: Mapping[str, str]) -> Iterator[Shape]:
    """Yield the shapes that a pool's requirements allow: by instance type, by family, or by GPU name."""
    types = (*requirements.get(_INSTANCE_TYPE, ()), *requirements.get(_AZURE_TYPE, ()))
    families = tuple(value for key in _FAMILIES for value in requirements.get(key, ()))
    if not types and families:
        types = tuple(f"{family}.{size}" for family in families for size in _AWS_SIZES)
    names = tuple(value for key in _GPU_NAMES for value in requirements.get(key, ()))
    if types:
        yield from _typed_shapes(owner, types, names)
        return
    counts = tuple(
        count for key in _GPU_COUNTS for value in requirements.get(key, ()) if (count := reading.whole_number(value))
    )
    for name in names:
        key = next(key for key in _GPU_NAMES if name in requirements.get(key, ()))
        stated = {key: values[0] for key, values in requirements.items() if len(values) == 1}
        gpu_class = _class_of({**labels, **stated, key: name}, name)
        yield _shape(owner, gpu_class, max(counts, default=None))
    categories = {value for key in _CATEGORIES for value in requirements.get(key, ())}
    if not names and categories and categories <= _GPU_CATEGORIES:
        unknown = GpuClass(vendor="nvidia", resource_name="nvidia.com/gpu", product=None, memory_bytes=None)
        warning = f"{owner} may bring GPU nodes, but names neither a GPU nor an instance type: the memory is unknown"
        yield Shape(gpu_class=unknown, gpus=USUAL_NODE, warnings=(warning,))


def _typed_shapes(owner: str, types: tuple[str, ...], names: tuple[str, ...]) -> Iterator[Shape]:
    """Yield the largest node of each GPU class among the instance types, where GPU names narrow them further."""
    wanted = {device for name in names for device in find_product(name).candidates}
    largest: dict[GpuClass, Shape] = {}
    for instance_type in types:
        machine = find_instance_type(instance_type)
        if machine is None or (wanted and not wanted & set(find_product(machine.product).candidates)):
            continue
        shape = _shape(owner, _class_of({_INSTANCE_TYPE: instance_type}, machine.product), machine.count)
        known = largest.get(shape.gpu_class)
        if known is None or shape.gpus > known.gpus:
            largest[shape.gpu_class] = shape
    yield from largest.values()


def _class_of(labels: Mapping[str, str], product: str) -> GpuClass:
    cloud = cloud_gpus(labels)
    match = cloud.match if cloud.match.known else find_product(product)
    vendors = {device.vendor for device in match.candidates} or {"nvidia"}
    vendor = vendors.pop()
    return GpuClass(
        vendor=vendor,
        resource_name=RESOURCE_OF_VENDOR.get(vendor, "nvidia.com/gpu"),
        product=product,
        memory_bytes=cloud.memory.memory_bytes,
        compute_capability=match.compute_capability,
        basis=Basis.UNKNOWN if cloud.memory.memory_bytes is None else Basis.DECLARED,
        interconnect=match.interconnect,
    )


def _as_declared(gpu_class: GpuClass) -> GpuClass:
    return gpu_class if gpu_class.memory_bytes is None else replace(gpu_class, basis=Basis.DECLARED)


def _shape(owner: str, gpu_class: GpuClass, gpus: int | None) -> Shape:
    warnings: tuple[str, ...] = ()
    if gpus is None:
        warnings = (f"{owner} does not say how many GPUs a node has; {USUAL_NODE} are assumed",)
    if gpu_class.memory_bytes is None:
        warnings += (f"{owner}: the memory of {gpu_class.product or 'its GPUs'} is not declared and not known",)
    return Shape(gpu_class=gpu_class, gpus=gpus or USUAL_NODE, warnings=warnings)


def _flavor(obj: Mapping[str, Any], quotas: Mapping[str, Mapping[str, int]]) -> Declaration | None:
    name = reading.text(reading.mapping_at(obj, "metadata").get("name")) or ""
    spec = reading.mapping_at(obj, "spec")
    labels = reading.strings(reading.mapping_at(spec, "nodeLabels"))
    limits = quotas.get(name, {})
    one_of_each = {"allocatable": dict.fromkeys(limits, 1)}
    node = project_node({"metadata": {"name": f"flavor/{name}", "labels": labels}, "status": one_of_each})
    machine = find_instance_type(labels.get(_INSTANCE_TYPE, ""))
    shapes = tuple(
        _shape(
            f"ResourceFlavor {name}",
            _as_declared(gpus.gpu_class),
            machine.count if machine is not None else None,
        )
        for gpus in node.gpus
    )
    if not shapes:
        return None
    taints = tuple(read_taints({"taints": spec.get("nodeTaints")}))
    return Declaration(
        name=f"flavor/{name}", labels=labels, taints=taints, shapes=shapes, limits=limits, counts_existing=True
    )


def _quotas(queue: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    for group in reading.items_at(queue, "spec", "resourceGroups"):
        for flavor in reading.items_at(group, "flavors"):
            name = reading.text(flavor.get("name"))
            for resource in reading.items_at(flavor, "resources"):
                quota = reading.whole_quantity(resource.get("nominalQuota"))
                resource_name = reading.text(resource.get("name"))
                if name and resource_name and quota:
                    yield name, resource_name, quota


def _allowed_values(requirements: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the values that `In` requirements allow, by key; other operators leave the key open."""
    allowed: dict[str, tuple[str, ...]] = {}
    for requirement in requirements:
        key, values = reading.text(requirement.get("key")), requirement.get("values")
        if key and requirement.get("operator") == "In" and isinstance(values, (list, tuple)):
            allowed[key] = tuple(value for value in values if isinstance(value, str))
    return allowed


def _condition(obj: Mapping[str, Any], kind: str) -> str | None:
    conditions = reading.items_at(obj, "status", "conditions")
    return next(
        (reading.text(condition.get("status")) for condition in conditions if condition.get("type") == kind), None
    )

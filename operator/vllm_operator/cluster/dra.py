"""Devices that drivers publish for dynamic resource allocation (`resource.k8s.io/v1`), and which of them are taken.

A driver publishes a pool in several `ResourceSlice`s; it counts only when every slice of its newest generation is
there. Devices can overlap (a card and the MIG slices that it could be cut into draw on the same counters), so what is
free is what could still be allocated together, not the length of the list.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster import reading
from vllm_operator.cluster.products import find_product
from vllm_operator.cluster.records import Basis, GpuClass, Sharing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VENDOR_OF_DRIVER: Final[Mapping[str, str]] = {
    "gpu.nvidia.com": "nvidia",
    "gpu.amd.com": "amd",
    "gpu.intel.com": "intel",
    "gaudi.intel.com": "habana",
    "tpu.google.com": "google",
    "neuron.aws.com": "aws",
}
_KEEPS_AWAY: Final = frozenset({"NoSchedule", "NoExecute"})
_NOT_FOR_CONTAINERS: Final = "vfio"
_PRODUCT_ATTRIBUTES: Final = ("productName", "model", "productname", "product")
_MEMORY_CAPACITIES: Final = ("memory", "vram")

DeviceKey = tuple[str, str, str]
"""Driver, pool and device: the name of a device in the cluster."""
CounterKey = tuple[str, str]
"""Counter set and counter within one pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """One published device."""

    name: str
    gpu_class: GpuClass
    tainted: bool = False
    uuid: str | None = None
    parent_uuid: str | None = None
    """The card that a slice was cut from."""
    consumes: Mapping[CounterKey, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRecord:
    """One `ResourceSlice` of a GPU driver for one node."""

    name: str
    driver: str
    pool: str
    generation: int
    slices_in_pool: int
    node_name: str
    devices: tuple[DeviceRecord, ...] = ()
    counters: Mapping[CounterKey, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRecord:
    """The devices that one `ResourceClaim` holds. `owner` is the VLLMDeployment's namespace/name when it is ours."""

    namespace: str
    name: str
    uid: str
    devices: tuple[DeviceKey, ...]
    owner: str | None = None
    pods: tuple[str, ...] = ()
    """Unique ids of the pods that it is reserved for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraOffer:
    """What one node's pools have of one class."""

    gpu_class: GpuClass
    capacity: int
    allocatable: int
    free: int
    warnings: tuple[str, ...] = ()


def project_slice(obj: Mapping[str, Any]) -> SliceRecord | None:
    """Return a slice of a known GPU driver that belongs to one node; None for any other."""
    spec = reading.mapping_at(obj, "spec")
    driver, node_name = reading.text(spec.get("driver")), reading.text(spec.get("nodeName"))
    if driver is None or node_name is None or driver not in VENDOR_OF_DRIVER:
        return None
    pool = reading.mapping_at(spec, "pool")
    devices = (_project_device(driver, node_name, device) for device in reading.items_at(spec, "devices"))
    return SliceRecord(
        name=reading.text(reading.mapping_at(obj, "metadata").get("name")) or "",
        driver=driver,
        pool=reading.text(pool.get("name")) or node_name,
        generation=reading.whole_number(pool.get("generation")) or 0,
        slices_in_pool=reading.whole_number(pool.get("resourceSliceCount")) or 1,
        node_name=node_name,
        devices=tuple(device for device in devices if device is not None),
        counters=_counters(reading.items_at(spec, "sharedCounters"), "name"),
    )


def project_claim(obj: Mapping[str, Any]) -> ClaimRecord | None:
    """Return the devices that a claim holds; None when nothing is allocated to it."""
    results = reading.items_at(obj, "status", "allocation", "devices", "results")
    keys = (_device_key(result) for result in results if result.get("adminAccess") is not True)
    devices = tuple(key for key in keys if key is not None)
    if not devices:
        return None
    metadata = reading.mapping_at(obj, "metadata")
    namespace = reading.text(metadata.get("namespace")) or "default"
    name = reading.text(metadata.get("name")) or ""
    return ClaimRecord(
        namespace=namespace,
        name=name,
        uid=reading.text(metadata.get("uid")) or f"{namespace}/{name}",
        devices=devices,
        owner=reading.owner_of(namespace, reading.mapping_at(metadata, "labels")),
        pods=tuple(
            uid for user in reading.items_at(obj, "status", "reservedFor") if (uid := reading.text(user.get("uid")))
        ),
    )


def dra_offers(slices: Iterable[SliceRecord], taken: Mapping[DeviceKey, int]) -> tuple[DraOffer, ...]:
    """Return what the pools of one node have, by class; `taken` counts the allocations of each device."""
    pools: dict[tuple[str, str], list[SliceRecord]] = {}
    for record in slices:
        pools.setdefault((record.driver, record.pool), []).append(record)
    found: dict[GpuClass, list[tuple[int, int, int, str | None]]] = {}
    for (driver, pool), members in sorted(pools.items()):
        newest = max(record.generation for record in members)
        current = [record for record in members if record.generation == newest]
        if len(current) < max(record.slices_in_pool for record in current):
            continue
        for gpu_class, numbers in _pool_numbers(driver, pool, current, taken).items():
            found.setdefault(gpu_class, []).append(numbers)
    return tuple(
        DraOffer(
            gpu_class=gpu_class,
            capacity=sum(capacity for capacity, _, _, _ in numbers),
            allocatable=sum(allocatable for _, allocatable, _, _ in numbers),
            free=sum(free for _, _, free, _ in numbers),
            warnings=tuple(warning for _, _, _, warning in numbers if warning is not None),
        )
        for gpu_class, numbers in found.items()
    )


def incomplete_pools(slices: Iterable[SliceRecord]) -> tuple[str, ...]:
    """Return what is missing of the pools whose newest generation is not complete."""
    pools: dict[tuple[str, str, str], list[SliceRecord]] = {}
    for record in slices:
        pools.setdefault((record.node_name, record.driver, record.pool), []).append(record)
    missing = []
    for (node_name, driver, pool), members in sorted(pools.items()):
        newest = max(record.generation for record in members)
        current = [record for record in members if record.generation == newest]
        wanted = max(record.slices_in_pool for record in current)
        if len(current) < wanted:
            missing.append(
                f"node {node_name}: pool {pool} of {driver} has {len(current)} of the {wanted} slices of generation "
                f"{newest}; its devices do not count yet"
            )
    return tuple(missing)


def _pool_numbers(
    driver: str, pool: str, slices: list[SliceRecord], taken: Mapping[DeviceKey, int]
) -> dict[GpuClass, tuple[int, int, int, str | None]]:
    counters: dict[CounterKey, int] = {}
    for record in slices:
        counters.update(record.counters)
    devices = _without_cut_up_cards([device for record in slices for device in record.devices])
    used: Counter[CounterKey] = Counter()
    for device in devices:
        if taken.get((driver, pool, device.name)):
            used.update(device.consumes)
    left = {key: number - used[key] for key, number in counters.items()}
    numbers: dict[GpuClass, tuple[int, int, int, str | None]] = {}
    for gpu_class in dict.fromkeys(device.gpu_class for device in devices):
        alike = [device for device in devices if device.gpu_class == gpu_class]
        healthy = [device for device in alike if not device.tainted]
        untaken = [device for device in healthy if not taken.get((driver, pool, device.name))]
        tainted = len(alike) - len(healthy)
        numbers[gpu_class] = (
            _together(alike, counters),
            _together(healthy, counters),
            _together(untaken, left),
            f"{tainted} of {len(alike)} devices in pool {pool} of {driver} are tainted" if tainted else None,
        )
    return numbers


def _without_cut_up_cards(devices: list[DeviceRecord]) -> list[DeviceRecord]:
    """Leave out whole cards of which slices are published beside them, when no counters keep the two apart.

    Drivers before partitionable devices did that (kubernetes-sigs/dra-driver-nvidia-gpu issue 719); a pod that is
    given such a card cannot use it.
    """
    cut_up = {device.parent_uuid for device in devices if device.parent_uuid is not None}
    return [device for device in devices if device.uuid not in cut_up or device.consumes]


def _together(devices: list[DeviceRecord], counters: Mapping[CounterKey, int]) -> int:
    """Return how many of the devices could be allocated at once; equal slices in order of place leave no gap."""
    left = dict(counters)
    number = 0
    for device in devices:
        if all(left.get(key, 0) >= need for key, need in device.consumes.items()):
            number += 1
            for key, need in device.consumes.items():
                left[key] -= need
    return number


def _project_device(driver: str, node_name: str, obj: Mapping[str, Any]) -> DeviceRecord | None:
    name = reading.text(obj.get("name"))
    # Until v1, the figures of a device were one level deeper, under `basic`.
    body = reading.mapping_at(obj, "basic") or obj
    attributes = {key: _attribute(value) for key, value in reading.mapping_at(body, "attributes").items()}
    kind = _of(attributes, driver, "type")
    if name is None or kind == _NOT_FOR_CONTAINERS or not _is_on(body, node_name):
        return None
    return DeviceRecord(
        name=name,
        gpu_class=_device_class(driver, attributes, reading.mapping_at(body, "capacity")),
        uuid=_of(attributes, driver, "uuid"),
        parent_uuid=_of(attributes, driver, "parentUUID"),
        tainted=any(taint.get("effect") in _KEEPS_AWAY for taint in reading.items_at(body, "taints")),
        consumes=_counters(reading.items_at(body, "consumesCounters"), "counterSet"),
    )


def _device_key(result: Mapping[str, Any]) -> DeviceKey | None:
    driver, pool, device = (reading.text(result.get(name)) for name in ("driver", "pool", "device"))
    if driver is None or pool is None or device is None or driver not in VENDOR_OF_DRIVER:
        return None
    return driver, pool, device


def _device_class(driver: str, attributes: Mapping[str, str | None], capacity: Mapping[str, Any]) -> GpuClass:
    vendor = VENDOR_OF_DRIVER[driver]
    product = next((value for name in _PRODUCT_ATTRIBUTES if (value := _of(attributes, driver, name))), None)
    profile = _of(attributes, driver, "profile") if _of(attributes, driver, "type") == "mig" else None
    match = find_product(product)
    memory = _memory(driver, capacity)
    basis = Basis.RESOURCE_SLICE if memory else Basis.UNKNOWN
    if memory is None and profile is None and match.memory_bytes is not None:
        memory, basis = match.memory_bytes, Basis.PRODUCT_TABLE
    known = match.closest(memory) if memory is not None and match.closest(memory).known else match
    return GpuClass(
        vendor=vendor,
        resource_name=driver,
        product=product,
        memory_bytes=memory,
        compute_capability=_capability(_of(attributes, driver, "cudaComputeCapability")) or known.compute_capability,
        sharing=Sharing.EXCLUSIVE if profile is None else Sharing.MIG,
        mig_profile=profile,
        basis=basis,
        interconnect=known.interconnect if profile is None else None,
        partition=_of(attributes, driver, "partitionProfile"),
    )


def _memory(driver: str, capacity: Mapping[str, Any]) -> int | None:
    for name in _MEMORY_CAPACITIES:
        stated = capacity.get(name, capacity.get(f"{driver}/{name}"))
        value = stated.get("value") if hasattr(stated, "get") else stated
        memory = reading.whole_quantity(value)
        if memory:
            return memory
    return None


def _of(attributes: Mapping[str, str | None], driver: str, name: str) -> str | None:
    """Return a driver's own attribute; its domain may be left out."""
    return attributes.get(name) or attributes.get(f"{driver}/{name}")


def _attribute(value: object) -> str | None:
    fields = reading.mapping_at({"value": value}, "value")
    return reading.text(fields.get("string")) or reading.text(fields.get("version"))


def _capability(version: str | None) -> str | None:
    parts = (version or "").split(".")
    return ".".join(parts[:2]) if len(parts) >= 2 and all(part.isdigit() for part in parts[:2]) else None


def _is_on(device: Mapping[str, Any], node_name: str) -> bool:
    return device.get("nodeName") in (None, node_name)


def _counters(sets: tuple[Mapping[str, Any], ...], name_of_set: str) -> dict[CounterKey, int]:
    counters: dict[CounterKey, int] = {}
    for counter_set in sets:
        set_name = reading.text(counter_set.get(name_of_set)) or ""
        for counter, stated in reading.mapping_at(counter_set, "counters").items():
            number = reading.whole_quantity(reading.mapping_at({"value": stated}, "value").get("value"))
            if number is not None:
                counters[set_name, counter] = number
    return counters

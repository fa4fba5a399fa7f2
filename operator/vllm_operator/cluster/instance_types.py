"""Which accelerator a cloud's instance type has, for nodes whose labels say no more.

Sources: AWS EC2 "Accelerated computing" instance specifications and Karpenter's reference of instance types; Azure "GPU
accelerated" VM sizes; Google Compute Engine "GPU machine types"; Oracle Cloud "GPU shapes"; Alibaba Cloud ECS
"GPU-accelerated compute-optimized" families; DigitalOcean GPU Droplets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vllm_operator.cluster.devices import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGpus:
    """The accelerators of one instance type."""

    product: str
    """A name that the product table resolves to one memory size."""
    count: int | None
    """How many devices the type has; None where it depends on how the machine was made."""
    slice_bytes: int | None = None
    """Memory of the part of a device that the type gets, where it gets a part (vGPU)."""


_AWS: Final[tuple[tuple[str, str, int | None], ...]] = (
    (r"p2\.xlarge", "K80", 1),
    (r"p2\.8xlarge", "K80", 8),
    (r"p2\.16xlarge", "K80", 16),
    (r"p3\.2xlarge", "V100-SXM2-16GB", 1),
    (r"p3\.8xlarge", "V100-SXM2-16GB", 4),
    (r"p3\.16xlarge", "V100-SXM2-16GB", 8),
    (r"p3dn\.24xlarge", "V100-SXM2-32GB", 8),
    (r"p4d\.24xlarge", "A100-SXM4-40GB", 8),
    (r"p4de\.24xlarge", "A100-SXM4-80GB", 8),
    (r"p5\.4xlarge", "H100-SXM-80GB", 1),
    (r"p5\.48xlarge", "H100-SXM-80GB", 8),
    (r"p5en?\.48xlarge", "H200", 8),
    (r"p6-b200\.48xlarge", "B200", 8),
    (r"p6-b300\.48xlarge", "B300", 8),
    (r"p6e-gb200\.36xlarge", "GB200", 4),
    (r"p6e-gb300\.36xlarge", "GB300", 4),
    (r"g4dn\.12xlarge", "T4", 4),
    (r"g4dn\.metal", "T4", 8),
    (r"g4dn\.(?:2|4|8|16)?xlarge", "T4", 1),
    (r"g4ad\.(?:2|4)?xlarge", "Radeon PRO V520", 1),
    (r"g4ad\.8xlarge", "Radeon PRO V520", 2),
    (r"g4ad\.16xlarge", "Radeon PRO V520", 4),
    (r"g5\.(?:12|24)xlarge", "A10G", 4),
    (r"g5\.48xlarge", "A10G", 8),
    (r"g5\.(?:2|4|8|16)?xlarge", "A10G", 1),
    (r"g5g\.(?:16xlarge|metal)", "T4G", 2),
    (r"g5g\.(?:2|4|8)?xlarge", "T4G", 1),
    (r"g6\.(?:12|24)xlarge", "L4", 4),
    (r"g6\.48xlarge", "L4", 8),
    (r"(?:g6|gr6)\.(?:2|4|8|16)?xlarge", "L4", 1),
    (r"g6e\.(?:12|24)xlarge", "L40S", 4),
    (r"g6e\.48xlarge", "L40S", 8),
    (r"g6e\.(?:2|4|8|16)?xlarge", "L40S", 1),
    (r"g7e\.(?:2|4|8)xlarge", "RTX PRO 6000", 1),
    (r"g7e\.12xlarge", "RTX PRO 6000", 2),
    (r"g7e\.24xlarge", "RTX PRO 6000", 4),
    (r"g7e\.48xlarge", "RTX PRO 6000", 8),
    (r"dl1\.24xlarge", "Gaudi", 8),
    (r"inf1\.(?:2)?xlarge", "Inferentia", 1),
    (r"inf1\.6xlarge", "Inferentia", 4),
    (r"inf1\.24xlarge", "Inferentia", 16),
    (r"inf2\.(?:8)?xlarge", "Inferentia2", 1),
    (r"inf2\.24xlarge", "Inferentia2", 6),
    (r"inf2\.48xlarge", "Inferentia2", 12),
    (r"trn1\.2xlarge", "Trainium", 1),
    (r"trn1n?\.32xlarge", "Trainium", 16),
    (r"trn2\.3xlarge", "Trainium2", 1),
    (r"trn2u?\.48xlarge", "Trainium2", 16),
)
_AZURE: Final[tuple[tuple[str, str, int | None], ...]] = (
    (r"standard_nc(?:4|8|16)as_t4_v3", "T4", 1),
    (r"standard_nc64as_t4_v3", "T4", 4),
    (r"standard_nc6s_v3", "V100-PCIE-16GB", 1),
    (r"standard_nc12s_v3", "V100-PCIE-16GB", 2),
    (r"standard_nc24r?s_v3", "V100-PCIE-16GB", 4),
    (r"standard_nd40rs_v2", "V100-SXM2-32GB", 8),
    (r"standard_nc6s_v2", "P100-PCIE-16GB", 1),
    (r"standard_nc12s_v2", "P100-PCIE-16GB", 2),
    (r"standard_nc24r?s_v2", "P100-PCIE-16GB", 4),
    (r"standard_nd6s", "P40", 1),
    (r"standard_nd12s", "P40", 2),
    (r"standard_nd24r?s", "P40", 4),
    (r"standard_nc6", "K80", 1),
    (r"standard_nc12", "K80", 2),
    (r"standard_nc24r?", "K80", 4),
    (r"standard_nv12s_v3", "M60", 1),
    (r"standard_nv24s_v3", "M60", 2),
    (r"standard_nv48s_v3", "M60", 4),
    (r"standard_nc24ads_a100_v4", "A100-80GB-PCIe", 1),
    (r"standard_nc48ads_a100_v4", "A100-80GB-PCIe", 2),
    (r"standard_nc96ads_a100_v4", "A100-80GB-PCIe", 4),
    (r"standard_nd96asr(?:_a100)?_v4", "A100-SXM4-40GB", 8),
    (r"standard_nd96amsr_a100_v4", "A100-SXM4-80GB", 8),
    (r"standard_ncc?40ads_h100_v5", "H100-NVL", 1),
    (r"standard_nc80adis_h100_v5", "H100-NVL", 2),
    (r"standard_nd96isr?f?_h100_v5", "H100-SXM-80GB", 8),
    (r"standard_nd96isr_h200_v5", "H200", 8),
    (r"standard_nd128isr_(?:ndr_)?gb200_v6", "GB200", 4),
    (r"standard_nd128isr_(?:ndr_)?gb300_v6", "GB300", 4),
    (r"standard_nd96isr_mi300x_v5", "MI300X", 8),
    (r"standard_nv36adm?s_a10_v5", "A10", 1),
    (r"standard_nv72ads_a10_v5", "A10", 2),
    (r"standard_ng32adm?s_v620_v1", "Radeon PRO V620", 1),
)
_AZURE_SLICES: Final[tuple[tuple[str, str, int], ...]] = (
    (r"standard_nv6ads_a10_v5", "A10", 4),
    (r"standard_nv12ads_a10_v5", "A10", 8),
    (r"standard_nv18ads_a10_v5", "A10", 12),
    (r"standard_nv4ads_v710_v5", "Radeon PRO V710", 4),
    (r"standard_nv8ads_v710_v5", "Radeon PRO V710", 8),
    (r"standard_nv12ads_v710_v5", "Radeon PRO V710", 12),
    (r"standard_nv24ads_v710_v5", "Radeon PRO V710", 24),
)
"""Types with a part of a GPU, with the GiB of that part."""
_GOOGLE: Final[tuple[tuple[str, str, int | None], ...]] = (
    (r"a2-highgpu-(?P<count>[1248])g", "A100-SXM4-40GB", None),
    (r"a2-megagpu-(?P<count>16)g", "A100-SXM4-40GB", None),
    (r"a2-ultragpu-(?P<count>[1248])g", "A100-SXM4-80GB", None),
    (r"a3-(?:high|mega|edge)gpu-(?P<count>[1248])g(?:-nolssd)?", "H100-SXM-80GB", None),
    (r"a3-ultragpu-(?P<count>8)g(?:-nolssd)?", "H200", None),
    (r"a4-highgpu-(?P<count>8)g(?:-nolssd)?", "B200", None),
    (r"a4x-highgpu-(?P<count>4)g(?:-metal|-nolssd)?", "GB200", None),
    (r"a4x-maxgpu-(?P<count>4)g(?:-metal|-nolssd)?", "GB300", None),
    (r"g2-standard-(?:4|8|12|16|32)", "L4", 1),
    (r"g2-standard-24", "L4", 2),
    (r"g2-standard-48", "L4", 4),
    (r"g2-standard-96", "L4", 8),
    (r"g4-standard-48", "RTX PRO 6000", 1),
    (r"g4-standard-96", "RTX PRO 6000", 2),
    (r"g4-standard-192", "RTX PRO 6000", 4),
    (r"g4-standard-384", "RTX PRO 6000", 8),
    (r"ct4p-.*", "TPU V4", None),
    (r"ct5lp?-.*", "TPU V5E", None),
    (r"ct5p-.*", "TPU V5P", None),
    (r"ct6e-.*", "TPU V6E", None),
)
_OTHERS: Final[tuple[tuple[str, str, int | None], ...]] = (
    (r"(?:vm|bm)\.gpu\.a10\.(?P<count>[124])", "A10", None),
    (r"bm\.gpu4\.8", "A100-SXM4-40GB", 8),
    (r"bm\.gpu\.b4\.8", "A100-SXM4-40GB", 8),
    (r"bm\.gpu\.a100-v2\.8", "A100-SXM4-80GB", 8),
    (r"bm\.gpu\.h100\.8", "H100-SXM-80GB", 8),
    (r"bm\.gpu\.h200\.8", "H200", 8),
    (r"bm\.gpu\.b200\.8", "B200", 8),
    (r"bm\.gpu\.gb200\.4", "GB200", 4),
    (r"bm\.gpu\.l40s\.4", "L40S", 4),
    (r"bm\.gpu\.mi300x\.8", "MI300X", 8),
    (r"(?:vm|bm)\.gpu3\.(?P<count>[1248])", "V100-SXM2-16GB", None),
    (r"ecs\.gn6i-.*", "T4", None),
    (r"ecs\.gn6v-.*", "V100-SXM2-16GB", None),
    (r"ecs\.gn6e-.*", "V100-SXM2-32GB", None),
    (r"ecs\.gn5i-.*", "P4", None),
    (r"ecs\.gn5-.*", "P100-PCIE-16GB", None),
    (r"ecs\.gn7-.*", "A100-SXM4-40GB", None),
    (r"ecs\.gn7e-.*", "A100-SXM4-80GB", None),
    (r"ecs\.gn7i-.*", "A10", None),
    (r"gpu-h100x(?P<count>[18])-80gb", "H100-SXM-80GB", None),
    (r"gpu-h200x(?P<count>[18])-141gb", "H200", None),
    (r"gpu-l40sx(?P<count>1)-48gb", "L40S", None),
    (r"gpu-4000adax(?P<count>1)-20gb", "RTX 4000 Ada", None),
    (r"gpu-6000adax(?P<count>1)-48gb", "RTX 6000 Ada", None),
    (r"gpu-mi300x(?P<count>[18])-192gb", "MI300X", None),
)
INSTANCE_TYPES: Final = (*_AWS, *_AZURE, *_GOOGLE, *_OTHERS)
"""Pattern of the lower-cased instance type, product, number of devices (None: from the pattern, or unknown)."""

_PATTERNS: Final = tuple((re.compile(pattern), product, count) for pattern, product, count in INSTANCE_TYPES)
_SLICE_PATTERNS: Final = tuple((re.compile(pattern), product, gib) for pattern, product, gib in _AZURE_SLICES)


@lru_cache(maxsize=1024)
def find_instance_type(instance_type: str) -> InstanceGpus | None:
    """Return the accelerators of an instance type, or None when the table does not have it."""
    name = instance_type.lower()
    for pattern, product, count in _PATTERNS:
        found = pattern.fullmatch(name)
        if found:
            named = found.groupdict().get("count")
            return InstanceGpus(product=product, count=int(named) if named else count)
    for pattern, product, gib in _SLICE_PATTERNS:
        if pattern.fullmatch(name):
            return InstanceGpus(product=product, count=1, slice_bytes=gib * GIB)
    return None

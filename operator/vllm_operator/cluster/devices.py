"""Facts of accelerator products, for what a node does not say itself.

Memory is what the driver reports as the total of one device (`nvidia-smi`, "memory.total"), which is below the name on
the box: an "80 GB" H100 has 81,559 MiB, a "16 GB" T4 with ECC 15,360 MiB. A CUDA context takes a little more; that is
the memory model's business, not this table's. A product that is not here is fine as long as its memory is known.

Sources, by the letter in the rows:

- N: totals that `nvidia-smi` printed, in public logs and in NVIDIA/k8s-device-plugin's documentation; capability from
  NVIDIA's list of CUDA GPUs; bandwidth and dense BF16 from the product's data sheet (without sparsity).
- A: AMD's data sheets (Instinct, Radeon PRO); memory in GiB as `rocm-smi` and AMD's node labeller give it.
- I: Intel's data sheets (Data Center GPU Max and Flex, Arc Pro, Gaudi).
- G, W: Google's TPU and AWS's Neuron architecture pages; memory of one chip or one Neuron device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 2**20
GIB: Final = 2**30

NVLINK: Final = "NVLink"
PCIE: Final = "PCIe"
XGMI: Final = "InfinityFabric"
SOURCES: Final = {
    "nvidia": "NVIDIA data sheet; nvidia-smi memory.total",
    "amd": "AMD data sheet",
    "intel": "Intel data sheet",
    "habana": "Intel Gaudi data sheet",
    "google": "Google Cloud TPU system architecture",
    "aws": "AWS Neuron architecture guide",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """One product: memory of one device as the driver reports it, and what its maker says it can do."""

    vendor: str
    product: str
    names: tuple[str, ...]
    """Names that begin with these words mean this product or one of its siblings."""
    marks: frozenset[str] = frozenset()
    """Words further on in a name that tell it from its siblings."""
    memory_bytes: int
    memory_without_ecc_bytes: int | None = None
    """The total with ECC switched off, for boards that keep ECC in the same memory (GDDR6 loses 1/16 to it)."""
    compute_capability: str | None = None
    """CUDA compute capability; None for other makers."""
    interconnect: str | None = None
    """What links the devices of one node: NVLink, InfinityFabric or PCIe."""
    bandwidth_gbs: int | None = None
    """Memory bandwidth in 10^9 bytes a second."""
    bf16_tflops: float | None = None
    """Dense BF16 matrix throughput in 10^12 operations a second; None without BF16 units."""
    formats: frozenset[str] = frozenset()
    """Number formats with matrix units of their own, of `bf16`, `fp8`, `fp4`."""

    @property
    def source(self) -> str:
        """Where the figures were read."""
        return SOURCES[self.vendor]


def formats_of(compute_capability: str | None) -> frozenset[str]:
    """Return the formats a CUDA capability computes natively: BF16 from 8.0, FP8 from 8.9, FP4 from 10.0."""
    if compute_capability is None:
        return frozenset()
    major, _, minor = compute_capability.partition(".")
    if not major.isdigit() or not minor.isdigit():
        return frozenset()
    capability = (int(major), int(minor))
    since = {"bf16": (8, 0), "fp8": (8, 9), "fp4": (10, 0)}
    return frozenset(name for name, first in since.items() if capability >= first)


def _nvidia(
    product: str,
    memory_mib: int,
    capability: str,
    *,
    names: str = "",
    marks: str = "",
    link: str = PCIE,
    gbs: int | None = None,
    tflops: float | None = None,
    without_ecc_mib: int | None = None,
) -> DeviceFacts:
    return DeviceFacts(
        vendor="nvidia",
        product=product,
        names=tuple(names.split("|")) if names else (product,),
        marks=frozenset(marks.upper().split()),
        memory_bytes=memory_mib * MIB,
        memory_without_ecc_bytes=without_ecc_mib * MIB if without_ecc_mib else None,
        compute_capability=capability,
        interconnect=link,
        bandwidth_gbs=gbs,
        bf16_tflops=tflops,
        formats=formats_of(capability),
    )


def _other(
    vendor: str,
    product: str,
    memory_gib: float,
    *,
    names: str = "",
    marks: str = "",
    link: str = PCIE,
    gbs: int | None = None,
    tflops: float | None = None,
    formats: str = "bf16",
) -> DeviceFacts:
    return DeviceFacts(
        vendor=vendor,
        product=product,
        names=tuple(names.split("|")) if names else (product,),
        marks=frozenset(marks.upper().split()),
        memory_bytes=int(memory_gib * GIB),
        interconnect=link,
        bandwidth_gbs=gbs,
        bf16_tflops=tflops,
        formats=frozenset(formats.split()),
    )


_BLACKWELL = (
    _nvidia("GB300", 284208, "10.3", link=NVLINK, gbs=8000, tflops=2500),
    _nvidia("B300", 275040, "10.3", link=NVLINK, gbs=8000, tflops=2250),
    _nvidia("GB200", 189471, "10.0", link=NVLINK, gbs=8000, tflops=2500),
    _nvidia("B200", 183359, "10.0", link=NVLINK, gbs=7700, tflops=2250),
    _nvidia(
        "RTX PRO 6000 Blackwell",
        97887,
        "12.0",
        names="RTX PRO 6000|RTX PRO SERVER 6000|RTXP6000",
        gbs=1597,
        tflops=503.8,
    ),
    _nvidia("GB10", 124549, "12.1", names="GB10|DGX SPARK", gbs=273),
    _nvidia("RTX PRO 4500 Blackwell", 32623, "12.0", names="RTX PRO 4500", gbs=896),
    _nvidia("GeForce RTX 5090", 32607, "12.0", names="RTX 5090", gbs=1792, tflops=209.5),
    _nvidia("GeForce RTX 5080", 16303, "12.0", names="RTX 5080", gbs=960),
    _nvidia("GeForce RTX 5070 Ti", 16303, "12.0", names="RTX 5070 TI", gbs=896),
    _nvidia("GeForce RTX 5070", 12227, "12.0", names="RTX 5070", gbs=672),
)
_HOPPER = (
    _nvidia("H200", 143771, "9.0", link=NVLINK, gbs=4800, tflops=989.4),
    _nvidia("H200 NVL", 143771, "9.0", names="H200", marks="NVL", gbs=4800, tflops=835.5),
    _nvidia(
        "H100 SXM 80GB",
        81559,
        "9.0",
        names="H100",
        marks="SXM SXM5 HBM3 NVLINK MEGA 80GB",
        link=NVLINK,
        gbs=3350,
        tflops=989.4,
    ),
    _nvidia("H100 PCIe 80GB", 81559, "9.0", names="H100", marks="PCIE 80GB", gbs=2039, tflops=756.5),
    _nvidia("H100 NVL 94GB", 95830, "9.0", names="H100", marks="NVL 94GB", gbs=3938, tflops=835.5),
    _nvidia("H800 SXM 80GB", 81559, "9.0", names="H800", marks="SXM SXM5", link=NVLINK, gbs=3350, tflops=989.4),
    _nvidia("H800 PCIe 80GB", 81559, "9.0", names="H800", marks="PCIE", gbs=2039, tflops=756.5),
    _nvidia("H20 96GB", 97871, "9.0", names="H20", link=NVLINK, gbs=4000, tflops=148),
    _nvidia("H20 141GB", 143771, "9.0", names="H20", marks="3E 141GB", link=NVLINK, gbs=4800, tflops=148),
    _nvidia(
        "GH200 96GB", 97871, "9.0", names="GH200", marks="480GB 120GB 96GB HBM3", link=NVLINK, gbs=4000, tflops=989.4
    ),
    _nvidia("GH200 144GB", 146831, "9.0", names="GH200", marks="144G 144GB HBM3E", link=NVLINK, gbs=4900, tflops=989.4),
)
_ADA = (
    _nvidia("L4", 23034, "8.9", gbs=300, tflops=121, without_ecc_mib=24570),
    _nvidia("L40S", 46068, "8.9", gbs=864, tflops=362, without_ecc_mib=49140),
    _nvidia("L40", 46068, "8.9", gbs=864, tflops=181, without_ecc_mib=49140),
    _nvidia("L20", 46068, "8.9", gbs=864, tflops=119.5, without_ecc_mib=49140),
    _nvidia("RTX 6000 Ada", 49140, "8.9", names="RTX 6000", marks="ADA", gbs=960, tflops=182.1),
    _nvidia("RTX 5000 Ada", 32760, "8.9", names="RTX 5000", marks="ADA", gbs=576),
    _nvidia("RTX 4500 Ada", 24570, "8.9", names="RTX 4500", gbs=432),
    _nvidia("RTX 4000 Ada", 20475, "8.9", names="RTX 4000", marks="ADA", gbs=360),
    _nvidia("GeForce RTX 4090", 24564, "8.9", names="RTX 4090", gbs=1008, tflops=165.2),
    _nvidia("GeForce RTX 4080", 16376, "8.9", names="RTX 4080", gbs=717),
    _nvidia("GeForce RTX 4070 Ti SUPER", 16376, "8.9", names="RTX 4070 TI SUPER", gbs=672),
    _nvidia("GeForce RTX 4070", 12282, "8.9", names="RTX 4070", gbs=504),
    _nvidia("GeForce RTX 4060 Ti 16GB", 16380, "8.9", names="RTX 4060 TI", marks="16GB", gbs=288),
    _nvidia("GeForce RTX 4060 Ti 8GB", 8188, "8.9", names="RTX 4060 TI", marks="8GB", gbs=288),
    _nvidia("GeForce RTX 4060", 8188, "8.9", names="RTX 4060", gbs=272),
)
_AMPERE = (
    _nvidia(
        "A100 SXM 40GB", 40960, "8.0", names="A100", marks="SXM SXM4 40GB NVLINK", link=NVLINK, gbs=1555, tflops=312
    ),
    _nvidia("A100 PCIe 40GB", 40960, "8.0", names="A100", marks="PCIE PCI PG506 40GB", gbs=1555, tflops=312),
    _nvidia(
        "A100 SXM 80GB", 81920, "8.0", names="A100", marks="SXM SXM4 80GB NVLINK", link=NVLINK, gbs=2039, tflops=312
    ),
    _nvidia("A100 PCIe 80GB", 81920, "8.0", names="A100", marks="PCIE PCI 80GB", gbs=1935, tflops=312),
    _nvidia("A800 SXM 80GB", 81920, "8.0", names="A800", marks="SXM SXM4 80GB", link=NVLINK, gbs=2039, tflops=312),
    _nvidia("A800 PCIe 80GB", 81920, "8.0", names="A800", marks="PCIE 80GB", gbs=1935, tflops=312),
    _nvidia("A800 40GB", 40960, "8.0", names="A800", marks="40GB ACTIVE", gbs=1555, tflops=312),
    _nvidia("A30", 24576, "8.0", gbs=933, tflops=165),
    _nvidia("A40", 46068, "8.6", gbs=696, tflops=149.7, without_ecc_mib=49140),
    _nvidia("A10G", 23028, "8.6", gbs=600, tflops=70, without_ecc_mib=24564),
    _nvidia("A10", 23028, "8.6", gbs=600, tflops=125, without_ecc_mib=24564),
    _nvidia("A10M", 23028, "8.6", gbs=500),
    _nvidia("A16", 15356, "8.6", gbs=200, without_ecc_mib=16380),
    _nvidia("A2", 15356, "8.6", gbs=200, tflops=18, without_ecc_mib=16380),
    _nvidia("RTX A6000", 49140, "8.6", gbs=768, tflops=154.8),
    _nvidia("RTX A5500", 24564, "8.6", gbs=768),
    _nvidia("RTX A5000", 24564, "8.6", gbs=768, tflops=111.1),
    _nvidia("RTX A4500", 20470, "8.6", gbs=640),
    _nvidia("RTX A4000", 16376, "8.6", gbs=448, tflops=76.7),
    _nvidia("RTX A2000 12GB", 12282, "8.6", names="RTX A2000", marks="12GB", gbs=288),
    _nvidia("RTX A2000 6GB", 6138, "8.6", names="RTX A2000", marks="6GB", gbs=288),
    _nvidia("GeForce RTX 3090", 24576, "8.6", names="RTX 3090", gbs=936, tflops=71),
    _nvidia("GeForce RTX 3080 Ti", 12288, "8.6", names="RTX 3080 TI", gbs=912),
    _nvidia("GeForce RTX 3080 10GB", 10240, "8.6", names="RTX 3080", marks="10GB", gbs=760),
    _nvidia("GeForce RTX 3080 12GB", 12288, "8.6", names="RTX 3080", marks="12GB", gbs=912),
    _nvidia("GeForce RTX 3070", 8192, "8.6", names="RTX 3070", gbs=448),
    _nvidia("GeForce RTX 3060 Ti", 8192, "8.6", names="RTX 3060 TI", gbs=448),
    _nvidia("GeForce RTX 3060", 12288, "8.6", names="RTX 3060", gbs=360),
)
_BEFORE_AMPERE = (
    _nvidia("T4G", 15360, "7.5", gbs=320),
    _nvidia("T4", 15360, "7.5", gbs=320),
    _nvidia("Quadro RTX 8000", 49152, "7.5", gbs=672),
    _nvidia("Quadro RTX 6000", 24576, "7.5", gbs=672),
    _nvidia("Quadro RTX 5000", 16384, "7.5", gbs=448),
    _nvidia("Quadro RTX 4000", 8192, "7.5", gbs=416),
    _nvidia("TITAN RTX", 24576, "7.5", gbs=672),
    _nvidia("GeForce RTX 2080 Ti", 11264, "7.5", names="RTX 2080 TI", gbs=616),
    _nvidia("GeForce RTX 2080", 8192, "7.5", names="RTX 2080", gbs=448),
    _nvidia("GeForce RTX 2070", 8192, "7.5", names="RTX 2070", gbs=448),
    _nvidia("V100S", 32768, "7.0", gbs=1134),
    _nvidia("V100 SXM 16GB", 16384, "7.0", names="V100", marks="SXM2 16GB NVLINK", link=NVLINK, gbs=900),
    _nvidia("V100 PCIe 16GB", 16384, "7.0", names="V100", marks="PCIE 16GB", gbs=900),
    _nvidia("V100 SXM 32GB", 32768, "7.0", names="V100", marks="SXM2 SXM3 DGXS 32GB NVLINK", link=NVLINK, gbs=900),
    _nvidia("V100 PCIe 32GB", 32768, "7.0", names="V100", marks="PCIE 32GB", gbs=900),
    _nvidia("TITAN V", 12288, "7.0", gbs=653),
    _nvidia("P100 16GB", 16384, "6.0", names="P100", marks="16GB SXM2", gbs=732),
    _nvidia("P100 12GB", 12288, "6.0", names="P100", marks="12GB", gbs=549),
    _nvidia("P40", 23040, "6.1", gbs=346),
    _nvidia("P4", 7680, "6.1", gbs=192),
    _nvidia("GeForce GTX 1080 Ti", 11264, "6.1", names="GTX 1080 TI", gbs=484),
    _nvidia("GeForce GTX 1080", 8192, "6.1", names="GTX 1080", gbs=320),
    _nvidia("M60", 8192, "5.2", gbs=160),
    _nvidia("K80", 11441, "3.7", gbs=240),
)
_AMD = (
    _other("amd", "MI355X", 288, link=XGMI, gbs=8000, tflops=2516, formats="bf16 fp8 fp4"),
    _other("amd", "MI350X", 288, link=XGMI, gbs=8000, tflops=2307, formats="bf16 fp8 fp4"),
    _other("amd", "MI325X", 256, link=XGMI, gbs=6000, tflops=1307.4, formats="bf16 fp8"),
    _other("amd", "MI308X", 192, link=XGMI, gbs=5300, formats="bf16 fp8"),
    _other("amd", "MI300X", 192, link=XGMI, gbs=5300, tflops=1307.4, formats="bf16 fp8"),
    _other("amd", "MI300A", 128, link=XGMI, gbs=5300, tflops=980.6, formats="bf16 fp8"),
    _other("amd", "MI250X", 64, link=XGMI, gbs=1638, tflops=191.5),
    _other("amd", "MI250", 64, link=XGMI, gbs=1638, tflops=181),
    _other("amd", "MI210", 64, gbs=1638, tflops=181),
    _other("amd", "MI100", 32, gbs=1229, tflops=92.3),
    _other("amd", "Radeon PRO W7900", 48, names="PRO W7900", gbs=864, tflops=122.6),
    _other("amd", "Radeon PRO W7800", 32, names="PRO W7800", gbs=576, tflops=90.5),
    _other("amd", "Radeon PRO V710", 28, names="PRO V710|V710", gbs=448),
    _other("amd", "Radeon PRO V620", 32, names="PRO V620|V620", gbs=512, formats=""),
    _other("amd", "Radeon PRO V520", 8, names="PRO V520|V520", gbs=512, formats=""),
    _other(
        "amd", "Radeon AI PRO R9700", 32, names="AI PRO R9700|PRO R9700|R9700", gbs=640, tflops=191, formats="bf16 fp8"
    ),
    _other("amd", "Radeon RX 7900 XTX", 24, names="RX 7900 XTX", gbs=960, tflops=122.8),
)
_INTEL = (
    _other("intel", "Data Center GPU Max 1550", 128, names="MAX 1550", gbs=3277, tflops=839),
    _other("intel", "Data Center GPU Max 1100", 48, names="MAX 1100", gbs=1229, tflops=362),
    _other("intel", "Data Center GPU Flex 170", 16, names="FLEX 170", gbs=576),
    _other("intel", "Data Center GPU Flex 140", 6, names="FLEX 140", gbs=186),
    _other("intel", "Arc Pro B60", 24, names="ARC PRO B60", gbs=456),
    _other("intel", "Arc Pro B50", 16, names="ARC PRO B50", gbs=224),
    _other("intel", "Arc A770 16GB", 16, names="ARC A770", marks="16GB", gbs=560),
    _other("intel", "Arc A770 8GB", 8, names="ARC A770", marks="8GB", gbs=512),
    _other(
        "habana",
        "Gaudi3",
        128,
        names="GAUDI3|GAUDI 3|HL 325|HL 325L|HL 338",
        link="RoCE",
        gbs=3700,
        tflops=1835,
        formats="bf16 fp8",
    ),
    _other(
        "habana",
        "Gaudi2",
        96,
        names="GAUDI2|GAUDI 2|HL 225|HL 225B|HL 225H",
        link="RoCE",
        gbs=2450,
        tflops=432,
        formats="bf16 fp8",
    ),
    _other("habana", "Gaudi", 32, names="GAUDI|HL 205", link="RoCE", gbs=1000),
)
_CLOUD_CHIPS = (
    _other("google", "TPU v7", 192, names="TPU V7|TPU7X", link="ICI", gbs=7380, tflops=2307, formats="bf16 fp8"),
    _other("google", "TPU v6e", 32, names="TPU V6E", link="ICI", gbs=1640, tflops=918),
    _other("google", "TPU v5p", 95, names="TPU V5P", link="ICI", gbs=2765, tflops=459),
    _other("google", "TPU v5e", 16, names="TPU V5 LITE|TPU V5E", link="ICI", gbs=819, tflops=197),
    _other("google", "TPU v4", 32, names="TPU V4", link="ICI", gbs=1228, tflops=275),
    _other("aws", "Trainium2", 96, names="TRAINIUM2", link="NeuronLink", gbs=2900, tflops=667, formats="bf16 fp8"),
    _other("aws", "Trainium", 32, names="TRAINIUM", link="NeuronLink", gbs=820, tflops=190, formats="bf16 fp8"),
    _other("aws", "Inferentia2", 32, names="INFERENTIA2", link="NeuronLink", gbs=820, tflops=190, formats="bf16 fp8"),
    _other("aws", "Inferentia", 8, names="INFERENTIA", gbs=50, tflops=64),
)

DEVICES: Final[tuple[DeviceFacts, ...]] = (
    *_BLACKWELL,
    *_HOPPER,
    *_ADA,
    *_AMPERE,
    *_BEFORE_AMPERE,
    *_AMD,
    *_INTEL,
    *_CLOUD_CHIPS,
)
"""All products known, newest first within a maker."""

AMD_DEVICE_IDS: Final = {
    # The PCI ID repository's names for vendor 1002.
    "738c": "MI100",
    "7408": "MI250X",
    "740c": "MI250X",
    "740f": "MI210",
    "74a0": "MI300A",
    "74a1": "MI300X",
    "74a2": "MI308X",
    "74a5": "MI325X",
    "74b5": "MI300X",
    "75a0": "MI350X",
    "75a3": "MI355X",
}
"""PCI device numbers, for nodes whose labeller writes the number and not the name."""

MIG_SLICES_MIB: Final = {
    # nvidia-smi mig -lgip prints GiB; where two cards share a profile's name, the smaller figure stands.
    "1g.5gb": 4864,
    "1g.6gb": 5952,
    "1g.10gb": 9728,
    "1g.12gb": 11008,
    "1g.20gb": 19968,
    "1g.23gb": 20992,
    "1g.24gb": 20480,
    "1g.45gb": 45312,
    "1g.47gb": 46592,
    "2g.10gb": 9856,
    "2g.12gb": 11968,
    "2g.20gb": 19968,
    "2g.45gb": 45312,
    "2g.47gb": 46592,
    "3g.20gb": 19968,
    "3g.40gb": 40192,
    "4g.20gb": 19968,
    "4g.24gb": 24000,
    "4g.40gb": 40192,
    "7g.40gb": 40192,
    "7g.80gb": 80640,
}
"""Usable memory of a MIG slice by profile, for nodes whose labels do not give it."""

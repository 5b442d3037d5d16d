"""What chips can do by their makers' data sheets, and how topologies are named."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Chip(NamedTuple):
    """A chip's peaks: what no program exceeds, and few reach."""

    name: str
    flops: float  # a second, bfloat16 with float32 sums, dense
    hbm: float  # bytes of memory that a program can have
    hbm_rate: float  # bytes a second
    link_rate: float  # bytes a second that it sends to the others, all links together
    platform: str  # "tpu", compiled for ahead of time, or "gpu"
    axes: int  # of a topology's name
    examples: tuple[str, ...]  # of topologies that are rented


GB, GIB = 1e9, 2.0**30

# TPU: docs.cloud.google.com/tpu/docs/v5e, /v5p and /v6e, the tables "key chip
# specifications". Memory is what the compiler grants of 16, 95 and 32 GB. Interconnect
# is told there as both directions together (400, 1200 and 800 GB/s; 4,800 Gbit/s of v5p
# are one direction's 600 GB/s); a ring sends in one, so half of that counts.
# GPU: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and H200 SXM, dense rates; NVLink
# is told as both directions together (600, 900, 900 GB/s), half of which counts.
CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            "v5e",
            flops=197e12,
            hbm=15.75 * GIB,
            hbm_rate=819 * GB,
            link_rate=200 * GB,
            platform="tpu",
            axes=2,
            examples=("v5e:2x4", "v5e:4x4", "v5e:4x8", "v5e:8x8", "v5e:8x16"),
        ),
        Chip(
            "v5p",
            flops=459e12,
            hbm=95 * GB,
            hbm_rate=2765 * GB,
            link_rate=600 * GB,
            platform="tpu",
            axes=3,
            examples=("v5p:2x2x1", "v5p:2x2x2", "v5p:2x4x4", "v5p:4x4x4"),
        ),
        Chip(
            "v6e",
            flops=918e12,
            hbm=31.25 * GIB,
            hbm_rate=1638 * GB,
            link_rate=400 * GB,
            platform="tpu",
            axes=2,
            examples=("v6e:2x4", "v6e:4x4", "v6e:8x8"),
        ),
        Chip(
            "a100",
            flops=312e12,
            hbm=80 * GB,
            hbm_rate=2039 * GB,
            link_rate=300 * GB,
            platform="gpu",
            axes=1,
            examples=("a100:8",),
        ),
        Chip(
            "h100",
            flops=989e12,
            hbm=80 * GB,
            hbm_rate=3350 * GB,
            link_rate=450 * GB,
            platform="gpu",
            axes=1,
            examples=("h100:1", "h100:8"),
        ),
        Chip(
            "h200",
            flops=989e12,
            hbm=141 * GB,
            hbm_rate=4800 * GB,
            link_rate=450 * GB,
            platform="gpu",
            axes=1,
            examples=("h200:8",),
        ),
    )
}
ALIASES = {"gpu": "h100"}  # 80 GB


class Topology(NamedTuple):
    """Chips of one kind, and how they are linked."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many chips there are."""
        return int(np.prod(self.shape))


def parse_topology(name: str) -> Topology:
    """The topology that a name such as `v5e:4x4`, `v5p:4x4x4` or `gpu:8` stands for.

    Args:
        name: A kind of chip, a colon, and how many there are along each axis.

    Raises:
        ValueError: An unknown chip, or a shape that is none of its kind's; the known
            ones are listed.
    """
    kind, _, sizes = name.partition(":")
    chip = CHIPS.get(ALIASES.get(kind, kind))
    parts = sizes.split("x")
    good = all(re.fullmatch(r"[1-9]\d*", part) for part in parts)
    if chip is None or not good or len(parts) != chip.axes:
        known = ", ".join(x for one in CHIPS.values() for x in one.examples)
        raise ValueError(
            f"--topology={name}: expected a chip and its shape, such as {known}, or "
            "gpu:8 (which is h100:8)"
        )
    return Topology(name, chip, tuple(int(part) for part in parts))


def chip_of(device_kind: str) -> Chip | None:
    """The chip that jax calls so, if its peaks are known; a CPU's are not.

    Args:
        device_kind: Of a `jax.Device`, such as "TPU v5 lite", "NVIDIA H100 80GB HBM3".
    """
    names = {
        "TPU v5 lite": "v5e",
        "TPU v5e": "v5e",
        "TPU v5": "v5p",
        "TPU v5p": "v5p",
        "TPU v6 lite": "v6e",
        "TPU v6e": "v6e",
    }
    if device_kind in names:
        return CHIPS[names[device_kind]]
    for name in ("H200", "H100", "A100"):
        if name in device_kind and "PCIe" not in device_kind:
            return CHIPS[name.lower()]
    return None

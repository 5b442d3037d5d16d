"""Sizes of a Qwen2.5-VL policy, any of them: the released 3B-72B or a tiny one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VisionConfig:
    """The vision tower; `full_blocks` attend to the whole image, others to windows."""

    depth: int
    width: int
    mlp: int
    heads: int
    full_blocks: tuple[int, ...]
    patch: int = 14
    temporal: int = 2
    merge: int = 2
    window: int = 112  # pixels
    channels: int = 3
    norm_eps: float = 1e-6


@dataclass(frozen=True)
class Qwen25VLConfig:
    """The text decoder, the vision tower, and how to compute with them."""

    vocab: int
    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mrope_section: tuple[int, int, int]
    vision: VisionConfig
    tied: bool
    rope_theta: float = 1e6
    norm_eps: float = 1e-6
    dtype: str = "float32"  # of activations and matmuls
    param_dtype: str = "float32"
    remat: str = "none"  # name of a jax.checkpoint policy, "full", or "none"
    scan_unroll: int = 1  # layers unrolled per scan step

"""Sizes of a Qwen2.5-VL policy, any of them: the released 3B-72B or a tiny one."""

from dataclasses import dataclass
from typing import NamedTuple

from medjax.sharding import RuleTable


class Lora(NamedTuple):
    """A low-rank adapter: what is trained of a policy whose other parameters stay."""

    rank: int  # r, 1 or more
    alpha: float  # what is added is alpha / rank times the product; above 0
    targets: tuple[str, ...]  # the matrices that are changed, see `find_targets`


@dataclass(frozen=True)
class VisionConfig:
    """The vision tower; `full_blocks` attend to the whole image, others to windows."""

    depth: int  # blocks
    width: int  # numbers for a patch; a multiple of 4 * heads
    mlp: int  # hidden units of a block's perceptron
    heads: int
    full_blocks: tuple[int, ...]  # indices below `depth`; may be empty
    patch: int = 14  # pixels a side
    temporal: int = 2  # frames in a patch; a still image is repeated
    merge: int = 2  # patches a side that become one feature of the decoder
    window: int = 112  # pixels a side; a multiple of patch * merge
    channels: int = 3  # of the image
    norm_eps: float = 1e-6  # added to the mean square; fixed in published checkpoints


@dataclass(frozen=True)
class Qwen25VLConfig:
    """The text decoder, the vision tower, and how to compute with them."""

    vocab: int  # rows of the embedding; may be more than the tokenizer's tokens
    width: int  # numbers for a token: D
    mlp: int  # hidden units of a layer's perceptron
    layers: int
    heads: int  # of queries; a multiple of kv_heads
    kv_heads: int  # of keys and values
    head_dim: int  # numbers of one head; heads * head_dim is `width` in a saved folder
    mrope_section: tuple[int, int, int]  # frequencies of (t, h, w); sum head_dim / 2
    vision: VisionConfig
    tied: bool  # True: the output layer is the embedding, transposed
    rope_theta: float = 1e6  # base of the rotary frequencies
    norm_eps: float = 1e-6  # added to the mean square of a norm
    dtype: str = "float32"  # of activations and matmuls
    param_dtype: str = "float32"  # of the parameters
    remat: str = "none"  # name of a jax.checkpoint policy, "full", or "none"
    # layers unrolled per scan step; None: both of two, which compiles faster and keeps
    # no stacks for the backward pass, but one at a time for single tokens
    scan_unroll: int | None = None
    # where activations lie, from `rule_table`, on the mesh of parameters and rows, or
    # of jax.set_mesh; (): as the compiler likes. The names are batch, heads, kv_heads,
    # mlp and vocab
    rules: RuleTable = ()
    lora: Lora | None = None  # of the `lora_a` and `lora_b` that a tree may have

    @property
    def lora_scale(self) -> float:
        """What the product of an adapter's matrices is multiplied by: alpha / rank."""
        return 1.0 if self.lora is None else self.lora.alpha / self.lora.rank

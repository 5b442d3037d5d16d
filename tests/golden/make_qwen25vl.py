"""Makes `qwen25vl.npz`, a digest of the PyTorch oracle for machines without torch.

    python -m tests.golden.make_qwen25vl

The model has patches of 4 pixels so that its pictures are small. Its parameters are not
stored: `random_tensor` makes them again, and `weights` says whether it made the same.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL
from safetensors.numpy import load_file

from tests.models.qwen25vl.measure import digest, random_tensors
from tests.oracles import qwen25vl_inputs as inputs

PATCH = 4
LAST = 3  # logits kept of each row
GRADS = (  # kept whole
    "visual.blocks.0.norm1.weight",
    "visual.merger.mlp.2.bias",
    "model.layers.0.self_attn.k_proj.bias",
    "model.layers.1.input_layernorm.weight",
    "model.norm.weight",
)


def main():
    case = inputs.make_case(PATCH)
    arrays = {
        "grids": np.array(case.grids),
        "splits": np.array(case.splits),
        "tokens": np.concatenate(case.rows).astype(np.uint8),
        "lengths": np.array([len(row) for row in case.rows]),
    }
    arrays |= {f"image_{i}": image for i, image in enumerate(case.images)}
    with tempfile.TemporaryDirectory() as folder:
        make = [sys.executable, "-m", "tests.oracles.qwen25vl_torch", "make", folder]
        subprocess.run([*make, "--patch", str(PATCH)], check=True)
        for name in ("untied", "tied"):
            arrays |= {
                f"{name}/{k}": v for k, v in reduce_oracle(Path(folder) / name).items()
            }
    # the vision tower has the same weights in both
    for name in ("pixel_values", "position_ids", "image_features"):
        np.testing.assert_array_equal(
            arrays[f"untied/{name}"], arrays.pop(f"tied/{name}")
        )
    import torch
    import transformers

    arrays["versions"] = np.array(
        [f"{m.__name__} {m.__version__}" for m in (np, PIL, torch, transformers)]
    )
    target = Path(__file__).with_name("qwen25vl.npz")
    np.savez_compressed(target, **arrays)
    print(target, target.stat().st_size)


def reduce_oracle(folder):
    oracle, grads = (
        np.load(folder / "oracle.npz"),
        load_file(folder / "grads.safetensors"),
    )
    keep = oracle["attention_mask"].astype(bool)
    _, tensors = random_tensors(patch=PATCH, tied=folder.name == "tied")
    names = sorted(grads)
    digests = digest(grads)
    resized = slice(9 * 5 * 4 + 4 * 4 * 4, 9 * 5 * 4 + 4 * 4 * 4 + 3 * 2 * 4)
    return {
        "pixel_values": oracle["pixel_values"][resized],
        "position_ids": np.concatenate(
            [oracle["position_ids"][:, i, k].T for i, k in enumerate(keep)]
        ).astype(np.int16),
        "next_position": keep.sum(1) + oracle["rope_deltas"][:, 0],
        "image_features": oracle["image_features"][::2],
        "logits": oracle["logits"][:, -LAST:],
        "loss": oracle["loss"],
        "greedy_ids": oracle["greedy_ids"].astype(np.uint8),
        "weights": np.array([np.sum(tensors[n], dtype=np.float64) for n in names]),
        "names": np.array(names),
        "digests": np.stack([digests[n] for n in names]),
        **{f"grad/{n}": grads[n] for n in GRADS},
    }


if __name__ == "__main__":
    main()

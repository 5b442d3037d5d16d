"""The reference: transformers' own Qwen2.5-VL in PyTorch on the inputs of the tests.

    python -m tests.oracles.qwen25vl_torch make FOLDER --patch 14
    python -m tests.oracles.qwen25vl_torch read INPUTS.npz CHECKPOINT [CHECKPOINT ...]

`make` writes FOLDER/untied and FOLDER/tied, each a checkpoint folder that also holds
`oracle.npz` and `grads.safetensors` (published names); `read` loads any checkpoint
folders and writes the logits each gives on the same inputs to its `logits.npy`. What
silently goes wrong otherwise: mm_token_type_ids must be passed (else positions are
1-D); parameters are never cast by `model.to` (it rounds the rotary frequencies too);
`rope_deltas` is state that survives a call; attention must be eager.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
)

from medjax.models.qwen25vl.tensor_table import published_name
from tests.oracles import qwen25vl_inputs as inputs

NEW_TOKENS = 12


def make_model(patch, tied):
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    ids = inputs.TOKEN_IDS
    config = Qwen2_5_VLConfig(
        text_config={
            **inputs.text_sizes(),
            "rope_parameters": rope,
            **{k: ids[k] for k in special},
        },
        vision_config=inputs.vision_sizes(patch),
        tie_word_embeddings=tied,
        **{k: v for k, v in ids.items() if k not in special},
    )
    config._attn_implementation = "eager"
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = inputs.random_tensor(
                published_name(name), tuple(parameter.shape), tied=tied
            )
            parameter.copy_(torch.from_numpy(value))
    model.tie_weights()
    model.generation_config.eos_token_id = None  # always NEW_TOKENS of them
    model.generation_config.pad_token_id = inputs.PAD
    return model


def model_inputs(case):
    tokens, mask = map(torch.from_numpy, inputs.padded_rows(case))
    processor = Qwen2VLImageProcessorPil(
        patch_size=case.patch,
        merge_size=inputs.MERGE,
        temporal_patch_size=inputs.TEMPORAL,
        min_pixels=(2 * case.patch) ** 2,
        max_pixels=(32 * case.patch) ** 2,
    )
    seen = processor(images=case.images, return_tensors="pt")
    return {
        "input_ids": tokens,
        "attention_mask": mask,
        "pixel_values": seen["pixel_values"],
        "image_grid_thw": seen["image_grid_thw"],
        "mm_token_type_ids": (tokens == inputs.IMAGE).int(),
    }


def forward(model, batch, **kwargs):
    model.model.rope_deltas = None
    return model(**batch, use_cache=False, **kwargs)


def run(model, case):
    """Arrays of the reference, its gradients, and how far it disagrees with itself."""
    batch = model_inputs(case)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        logits = forward(model, batch).logits
        where, delta = model.model.get_rope_index(
            ids,
            mm_token_type_ids=batch["mm_token_type_ids"],
            image_grid_thw=batch["image_grid_thw"],
            attention_mask=mask,
        )
        features = model.model.get_image_features(
            batch["pixel_values"], batch["image_grid_thw"], return_dict=True
        ).pooler_output
        model.model.rope_deltas = None
        new = model.generate(
            **batch,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
    labels = ids.masked_fill((mask == 0) | (ids == inputs.IMAGE), -100)
    first = mask.argmax(1)  # nothing but padding predicts a row's first token
    labels[torch.arange(len(ids)), first] = -100
    model.zero_grad()
    loss = forward(model, batch, labels=labels).loss
    loss.backward()
    arrays = {
        **batch,
        "position_ids": where,
        "rope_deltas": delta,
        "image_features": torch.cat(list(features)),
        "logits": logits,
        "labels": labels,
        "loss": loss.detach(),
        "greedy_ids": new.sequences[:, ids.shape[1] :],
        "greedy_logits": torch.stack(new.logits, 1),
    }
    grads = {
        published_name(n): p.grad
        for n, p in model.named_parameters()
        if p.requires_grad
    }
    return {k: v.numpy() for k, v in arrays.items()}, grads, check(model, batch, arrays)


def check(model, batch, arrays):
    """Does the reference agree with itself? Rows alone, and greedy without a cache."""
    errors = []
    images = [len(sizes) for sizes in inputs.ROWS]
    patches = batch["image_grid_thw"].prod(-1)
    with torch.no_grad():
        for row, count in enumerate(images):
            keep = batch["attention_mask"][row].bool()
            skip = sum(images[:row])
            alone = {
                k: batch[k][row : row + 1, keep]
                for k in ("input_ids", "attention_mask", "mm_token_type_ids")
            }
            if count:
                start = int(patches[:skip].sum())
                stop = int(patches[: skip + count].sum())
                alone["pixel_values"] = batch["pixel_values"][start:stop]
                alone["image_grid_thw"] = batch["image_grid_thw"][skip : skip + count]
            found = forward(model, alone).logits[0]
            errors.append(float((found - arrays["logits"][row, keep]).abs().max()))
            new = arrays["greedy_ids"][row : row + 1]
            for step in range(NEW_TOKENS):
                if forward(model, alone).logits[0, -1].argmax() != new[0, step]:
                    raise SystemExit(
                        f"row {row}: the cache changes greedy token {step}"
                    )
                for name, value in (
                    ("input_ids", new[:, step : step + 1]),
                    ("attention_mask", torch.ones(1, 1, dtype=torch.int64)),
                    ("mm_token_type_ids", torch.zeros(1, 1, dtype=torch.int32)),
                ):
                    alone[name] = torch.cat([alone[name], value], 1)
    return max(errors)


def read_logits(folder, batch):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    names = (
        "input_ids",
        "attention_mask",
        "pixel_values",
        "image_grid_thw",
        "mm_token_type_ids",
    )
    with torch.no_grad():
        batch = {k: torch.from_numpy(batch[k]) for k in names}
        return forward(model, batch).logits.numpy()


def make(folder, patch):
    for tied in (False, True):
        model = make_model(patch, tied)
        arrays, grads, error = run(model, inputs.make_case(patch))
        target = folder / ("tied" if tied else "untied")
        model.save_pretrained(target)
        save_file(grads, target / "grads.safetensors")
        np.savez(target / "oracle.npz", **arrays)
        top = np.sort(arrays["greedy_logits"], -1)
        print(
            f"{target.name}: loss {arrays['loss']:.4f}, rows alone differ {error:.1e},"
        )
        print(f"smallest greedy margin {(top[..., -1] - top[..., -2]).min():.1e}")


def main():
    parser = argparse.ArgumentParser()
    modes = parser.add_subparsers(dest="mode", required=True)
    writer, reader = modes.add_parser("make"), modes.add_parser("read")
    writer.add_argument("folder", type=Path)
    writer.add_argument("--patch", type=int, required=True)
    reader.add_argument("inputs", type=Path)
    reader.add_argument("checkpoints", type=Path, nargs="+")
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.mode == "make":
        make(args.folder, args.patch)
        return
    batch = dict(np.load(args.inputs))
    for checkpoint in args.checkpoints:
        np.save(checkpoint / "logits.npy", read_logits(checkpoint, batch))


if __name__ == "__main__":
    main()

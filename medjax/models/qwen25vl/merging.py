"""A folder of a policy with a PEFT adapter merged into it."""

import json
from pathlib import Path

from medjax.models.qwen25vl.export import save_qwen25vl
from medjax.models.qwen25vl.weights import load_qwen25vl

_IDS = (
    *("image_token_id", "video_token_id", "vision_start_token_id"),
    *("vision_end_token_id", "bos_token_id", "eos_token_id", "pad_token_id"),
)


def merge_adapter(base: str | Path, adapter: str | Path, out: str | Path) -> None:
    """Read a policy with a LoRA added to its kernels, and write it as a folder.

    The numbers keep the dtype that the base's config.json names; they are added in
    float32. Tokenizer and processor files are the base's.

    Args:
        base: A Hugging Face folder of Qwen2.5-VL.
        adapter: A folder of PEFT's, made for it.
        out: Must not exist.

    Raises:
        FileExistsError: `out` is there.
        FileNotFoundError: A folder or a file of one is missing.
        ValueError: What `load_qwen25vl` refuses of the two.
    """
    base, out = Path(base), Path(out)
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name another folder")
    if not (base / "config.json").is_file():
        raise FileNotFoundError(
            f"{base}: expected a Hugging Face folder, found no config.json"
        )
    content = json.loads((base / "config.json").read_text(encoding="utf-8"))
    text = content.get("text_config") or {}
    kind = content.get("torch_dtype") or content.get("dtype") or text.get("dtype")
    config, params = load_qwen25vl(base, adapter=adapter, param_dtype=kind or "float32")
    ids = {name: content.get(name, text.get(name)) for name in _IDS}
    ids = {name: value for name, value in ids.items() if value is not None}
    save_qwen25vl(out, config, params, token_ids=ids, copy_from=base)

"""A tiny policy by its options, and files of its Hugging Face folder changed."""

import json

from medjax.data.prompting.chat import Style, sample_answers
from medjax.recipes.policy.opening import open_policy

STYLE = Style(None, "", "object")
TEXTS = ("Where is the disc?", "Find the cross.")
ANSWERS = sample_answers(("disc", "cross"), style="object")
SECTION = {
    "path": "",
    "vocab": 400,
    "width": 16,
    "mlp": 16,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 8,
    "mrope_section": [2, 1, 1],
    "tied": False,
    "scan_unroll": 1,
    "vision": {
        "depth": 1,
        "width": 16,
        "mlp": 16,
        "heads": 2,
        "full_blocks": [0],
        "patch": 7,
        "window": 28,
    },
    "min_pixels": 28 * 28,
    "max_pixels": 56 * 56,
    "dtype": "float32",
    "param_dtype": "float32",
    "remat": "none",
    "freeze_vision": False,
    "logit_chunk": None,
}


def make(style=STYLE, **changes):
    _, finish = open_policy(SECTION | changes)
    return finish(TEXTS, ANSWERS, style=style)


def change(folder, name, **changes):
    """Change keys of a JSON file of the folder; None takes one out."""
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    content |= changes
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))
    return folder

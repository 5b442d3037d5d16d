"""Write a policy with a PEFT adapter merged into it, as a folder like any other.

    python -m medjax.recipes.merge_adapter --base FOLDER --adapter FOLDER --out MERGED

Only LoRA, of matrices. The base's tokenizer and processor files go along; the numbers
keep the dtype of its config.json. Then name the folder as any other: model=MERGED.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medjax.systems.policy.qwen25vl import merge_adapter


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, merge and say where it is; 1 with one line otherwise."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=about)
    for name, says in (
        ("base", "the Hugging Face folder that the adapter was made for"),
        ("adapter", "the folder with adapter_config.json"),
        ("out", "the folder to make"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=says)
    args = parser.parse_args(argv)
    try:
        merge_adapter(args.base, args.adapter, args.out)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(f"wrote {args.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

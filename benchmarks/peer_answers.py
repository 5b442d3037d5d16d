"""What transformers alone answers about pictures, in the form of docs/answers.md.

    python benchmarks/peer_answers.py FOLDER --images=IMAGES --ask=QUESTIONS.jsonl \
        --answers=ANSWERS.jsonl

FOLDER is a Hugging Face folder of Qwen2.5-VL, such as `--mode=export` writes. It is
opened by transformers and PyTorch, with its own tokenizer, image processor, chat
template and generation config, and writes its likeliest tokens, one question at a time.
QUESTIONS has a line for each: {"image": a path from IMAGES, "query": a question}. The
answers are texts whose boxes count in pixels of the picture as shown ("resized").

Nothing of medjax is used but `add_ramps`, and that where the folder's medjax.json says
that its pictures need them: a small policy of medjax is shown where a pixel lies.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
from PIL import Image


def main(arguments: list[str]) -> None:
    options = read_options(arguments)
    lines = options.ask.read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines if line.strip()]
    answer = open_peer(options.folder, options.most)
    with options.answers.open("w", encoding="utf-8") as file:
        for n, asked in enumerate(questions, 1):
            with Image.open(options.images / asked["image"]) as picture:
                text = answer(picture.convert("RGB"), asked["query"] + options.suffix)
            line = {**asked, "text": text, "frame": "resized"}
            file.write(json.dumps(line) + "\n")
            sys.stderr.write(f"\r{n}/{len(questions)}")
    sys.stderr.write("\n")


def read_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    for name in ("images", "ask", "answers"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--suffix", default="", help="after each question")
    parser.add_argument("--most", type=int, default=64, help="tokens of an answer")
    return parser.parse_args(arguments)


def open_peer(folder: pathlib.Path, most: int):
    """A function of a picture and a question: the likeliest answer as text."""
    import torch
    from transformers import (
        AutoImageProcessor,
        AutoModelForImageTextToText,
        AutoTokenizer,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    ramps = needs_ramps(folder)

    def answer(picture: Image.Image, question: str) -> str:
        image = with_ramps(picture) if ramps else picture
        seen = processor(images=[image], return_tensors="pt")
        grid = seen["image_grid_thw"][0, 1:].tolist()
        size = tuple(n * processor.patch_size for n in reversed(grid))
        if ramps and size != picture.size:
            raise ValueError(
                f"a picture of {picture.size} would be shown as {size}, and its ramps "
                "be resized too; expected pictures of the size that they are shown at"
            )
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
        )
        # AutoProcessor would do this, and needs torchvision for videos
        count = int(seen["image_grid_thw"].prod()) // processor.merge_size**2
        text = text.replace("<|image_pad|>", "<|image_pad|>" * count)
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            found = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
                max_new_tokens=most,
                do_sample=False,
                **seen,
            )
        return tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)

    return answer


def needs_ramps(folder: pathlib.Path) -> bool:
    """Whether medjax.json of a folder says that pictures were shown with ramps."""
    path = folder / "medjax.json"
    if not path.is_file():
        return False
    return bool(json.loads(path.read_text(encoding="utf-8"))["images"]["ramps"])


def with_ramps(picture: Image.Image) -> Image.Image:
    from medjax.data.batches import add_ramps

    return Image.fromarray(add_ramps(np.asarray(picture)))


if __name__ == "__main__":
    main(sys.argv[1:])

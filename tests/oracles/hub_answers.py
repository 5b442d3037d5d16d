"""What transformers' own parts of a Hugging Face folder answer, greedily."""

import pytest


def answer(folder, images, question, *, most):
    """Tokens of the most likely answer, at most `most`, and their log-probabilities."""
    torch = pytest.importorskip("torch")
    from transformers import (
        AutoImageProcessor,
        AutoModelForImageTextToText,
        AutoTokenizer,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    content = [{"type": "image"}] * len(images)
    content = [*content, {"type": "text", "text": question}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
    )
    seen = processor(images=images, return_tensors="pt")
    parts = text.split("<|image_pad|>")
    counts = (seen["image_grid_thw"].prod(-1) // processor.merge_size**2).tolist()
    pads = ["<|image_pad|>" * n for n in counts]
    text = parts[0] + "".join(p + q for p, q in zip(pads, parts[1:], strict=True))
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            max_new_tokens=most,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            **seen,
        )
    tokens = found.sequences[0, ids.shape[1] :]
    logits = torch.stack(found.logits)[:, 0].log_softmax(-1)
    logps = torch.gather(logits, 1, tokens[: len(logits), None])[:, 0]
    return tokens.numpy(), logps.numpy()


def answer_text(folder, images, question, *, most):
    """The same as text, special tokens left out."""
    from transformers import AutoTokenizer

    tokens, _ = answer(folder, images, question, most=most)
    return AutoTokenizer.from_pretrained(folder).decode(
        tokens, skip_special_tokens=True
    )

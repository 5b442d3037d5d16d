import hashlib
import json

import pytest

from medjax.data.prompting.chat import (
    INSTRUCTION,
    SYSTEM,
    Style,
    answer_length,
    answer_text,
    corpus,
    encode,
    longest_answers,
    named_style,
    prompt_text,
    sample_answers,
    special_tokens,
    written,
)
from medjax.data.prompting.tokenizer import train_tokenizer
from medjax.rl.text.box_text import parse_text

PAPER = Style(system=SYSTEM, suffix=INSTRUCTION, answer="list")
TINY = Style(system=None, suffix="", answer="object")


def test_a_config_names_the_librarys_words_or_writes_its_own():
    assert named_style(system="auto", suffix="auto", answer="list") == PAPER
    assert named_style(system="", suffix="", answer="object") == TINY
    bare = named_style(system="auto", suffix="auto", answer="list", think=False)
    assert "think" not in bare.suffix and "<answer>[{" in bare.suffix
    sets = named_style(system="", suffix="auto", answer="set-list", think=False)
    assert "think" not in sets.suffix and "<answer>[]</answer>" in sets.suffix
    whole = answer_text((1, 2, 3, 4), "a disc", style="object")
    assert written([whole], TINY) == (whole,)
    alone = '<answer>{"bbox_2d": [1, 2, 3, 4]}</answer>'
    assert written([whole, alone], bare) == (alone, alone)
    mine = named_style(system="Be brief.", suffix=" Box?", answer="list")
    assert mine == Style("Be brief.", " Box?", "list")


def test_the_librarys_words_are_those_that_checkpoints_were_trained_with():
    digest = hashlib.sha256(f"{SYSTEM}\n{INSTRUCTION}".encode()).hexdigest()
    assert digest == "5ad777668b1703b8f5f94673735ec7169614b27b160cc3154f20a359d7e53e5e"


def template(question, images, style):
    """The published template, written out."""
    text = ""
    if style.system is not None:
        text += f"<|im_start|>system\n{style.system}<|im_end|>\n"
    text += (
        "<|im_start|>user\n" + "<|vision_start|><|image_pad|><|vision_end|>" * images
    )
    return text + f"{question}{style.suffix}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("style", [PAPER, TINY], ids=["paper", "tiny"])
@pytest.mark.parametrize("images", [0, 1, 2])
def test_halves_join_to_the_template_in_text_and_tokens(style, images, tokenizer):
    questions = ["Find the left insula.", "  Wo ist\ndas Gehirn? 12", "\n\nx"]
    context, parts = prompt_text(questions, images=images, style=style)
    for question, part in zip(questions, parts, strict=True):
        whole = template(question, images, style)
        assert context + part == whole
        joined = encode(tokenizer, context) + encode(tokenizer, part)
        assert joined == encode(tokenizer, whole)
    if images:
        assert context.endswith("<|vision_end|>")


def test_chat_template_of_the_tokenizer_agrees(tokenizer):
    content = [{"type": "image"}, {"type": "text", "text": "Find the insula."}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
    )
    style = Style(system=SYSTEM, suffix="", answer="list")
    context, (part,) = prompt_text(["Find the insula."], images=1, style=style)
    assert context + part == text


@pytest.mark.parametrize("style", ["list", "object"])
def test_answers_are_in_the_format_asked_for(style):
    text = answer_text((1.4, 2.6, 30, 40), 'lesion "A"', style=style)
    parsed = parse_text(text)
    assert parsed.format and parsed.box_found
    assert parsed.boxes.tolist() == [1, 3, 30, 40]
    inside = text.split("<answer>")[1].removesuffix("</answer>")
    entry = json.loads(inside)
    assert (entry[0]["label"] == 'lesion "A"') if style == "list" else True


def test_instruction_shows_a_format_that_parses():
    example = INSTRUCTION[INSTRUCTION.index("<think>r") :]
    for name, number in (("x1", "1"), ("y1", "2"), ("x2", "3"), ("y2", "4")):
        example = example.replace(name, number)
    assert parse_text(example).format


def test_unknown_answer_style():
    with pytest.raises(ValueError, match="'xml'.*list"):
        answer_text((1, 2, 3, 4), "x", style="xml")


def test_special_tokens(tokenizer):
    ids = special_tokens(tokenizer)
    names = tokenizer.convert_ids_to_tokens(list(ids))
    assert names == ["<|image_pad|>", "<|im_end|>", "<|endoftext|>"]


def test_tokenizer_without_special_tokens_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import AddedToken, PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")),
        unk_token="?",
    )
    with pytest.raises(ValueError, match=r"<\|image_pad\|>.*<\|vision_end\|>.*Qwen"):
        special_tokens(bare)
    bare.add_tokens([AddedToken("<|image_pad|>", special=True)])
    with pytest.raises(ValueError, match=r"without <\|im_end\|>"):
        special_tokens(bare)


def test_answer_length_is_the_longest(tokenizer):
    names, sizes = ("left insula", "thalamus"), ((112, 98),)
    longest = longest_answers(names, sizes=sizes, style="object")
    needed = answer_length(tokenizer, longest)
    for name in names:
        for box in ((0, 0, 98, 112), (97, 100, 98, 112)):
            text = answer_text(box, name, style="object")
            assert len(encode(tokenizer, text)) + 1 <= needed


def test_corpus_holds_all_text():
    texts, names = ("Find the insula.", "Where is the insula?"), ("insula",)
    whole = "".join(corpus(texts, sample_answers(names, style="list"), PAPER))
    assert all(text in whole for text in texts)
    assert SYSTEM in whole and INSTRUCTION in whole and "<answer>" in whole
    small = train_tokenizer(
        corpus(texts, sample_answers(names, style="object"), TINY), 320
    )
    text = answer_text((1, 2, 3, 4), "insula", style="object")
    assert small.decode(encode(small, text)) == text

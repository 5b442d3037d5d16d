"""Chat templates of folders, rendered by transformers and compared with our words."""

import json

import pytest

from medjax.data.prompting.chat import INSTRUCTION, SYSTEM, Style
from medjax.data.prompting.generation import read_token_ids
from medjax.data.prompting.template import chat_template, check_templates, conversations
from medjax.data.prompting.tokenizer import (
    check_readable,
    load_tokenizer,
    train_tokenizer,
)
from tests.data.prompting.qwen_ranks import qwen_tokenizer

AUTO = Style(SYSTEM, INSTRUCTION, "list")
BARE = Style(None, "", "object")
MINE = Style('You are "a" radiologist.\nBe brief.', " Answer.", "list")
# In the manner of the released folders: pictures are counted, links are images too.
COUNTED = (
    "{% set pictures = namespace(n=0) %}{% for m in messages %}"
    "{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}<|im_end|>\n{% else %}"
    "{% for part in m.content %}"
    "{% if part.type == 'image' or 'image_url' in part %}"
    "{% set pictures.n = pictures.n + 1 %}"
    "{% if add_vision_id %}Picture {{ pictures.n }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["nothing of the sort"], 278)


def write(folder, template, name="tokenizer_config.json"):
    (folder / name).write_text(json.dumps({"chat_template": template}))
    return folder


def test_twenty_conversations_cover_what_we_write():
    for style in (AUTO, BARE, MINE):
        found = conversations(style)
        assert len(found) == len(set(found)) == 20
        assert {c.images for c in found} == {0, 1, 2, 3}
        assert sum(c.answer is not None for c in found) == 4
        assert {"", *(c.text for c in found if "<|im_end|>" in c.text)} <= {
            c.text for c in found
        }
        silent = {c.images for c in found if c.system is None}
        assert silent == (set() if style is MINE else {0, 1, 2, 3})


@pytest.mark.parametrize(
    ("template", "style"),
    [
        (COUNTED, AUTO),
        (COUNTED, MINE),
        (chat_template(SYSTEM), AUTO),
        (chat_template(None), BARE),
        (chat_template(None), MINE),
        (chat_template(MINE.system), MINE),
    ],
)
@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "chat_template.json", "chat_template.jinja"]
)
def test_templates_that_write_the_same(template, style, name, tokenizer, tmp_path):
    write(tmp_path, template, name)
    if name.endswith("jinja"):
        (tmp_path / name).write_text(template, encoding="utf-8")
    assert check_templates(tmp_path, tokenizer, style) == template


def test_a_folder_may_be_without_one(tokenizer, tmp_path):
    assert check_templates(write(tmp_path, None), tokenizer, AUTO) is None


QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


@pytest.mark.parametrize(
    ("template", "style", "pieces"),
    [
        (COUNTED, BARE, ("without a system message", "prompt.system=auto")),
        (chat_template(None), AUTO, ("'<|im_start|>user", "prompt.system=''")),
        (chat_template(QWEN), AUTO, ("Qwen, created", f"prompt.system={QWEN!r}")),
        (
            COUNTED.replace("{{ part.text }}", "{{ part.text | trim }}"),
            AUTO._replace(suffix=""),
            ("end|>  Spaces first", "end|>Spaces first", "template alone"),
        ),
        (
            COUNTED.replace("{{ m.content }}", "{{ m.content.strip() }}"),
            AUTO,
            ("template alone",),
        ),
        (
            COUNTED.replace("{{ part.text }}", "{{ part.text | replace('<|', '<') }}"),
            AUTO,
            ("<|vision_start|> and", "<vision_start|> and"),
        ),
        (
            COUNTED.replace("{{ part.text }}", "{{ part.text | e }}"),
            BARE._replace(system=QWEN),
            ("&lt;",),
        ),
        (
            COUNTED.replace("{% if add_vision_id %}", "{% if true %}"),
            AUTO,
            ("Picture 1: ",),
        ),
        (
            COUNTED.replace(
                "assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"
            ),
            AUTO,
            ("assistant\\n<think>",),
        ),
        (COUNTED + "{# end #}<|endoftext|>", AUTO, ("<|endoftext|>",)),
        (COUNTED.replace("m.content", "m.content[::-1]"), AUTO, ("medjax",)),
    ],
)
def test_the_first_difference_is_shown(template, style, pieces, tokenizer, tmp_path):
    with pytest.raises(ValueError) as error:
        check_templates(write(tmp_path, template), tokenizer, style)
    text = str(error.value)
    for piece in (f"{tmp_path}/tokenizer_config.json: chat_template", *pieces):
        assert piece in text, (piece, text)
    assert len(text.splitlines()) == 4


def test_the_way_out_works(tokenizer, tmp_path):
    write(tmp_path, chat_template(QWEN))
    check_templates(tmp_path, tokenizer, AUTO._replace(system=QWEN))


@pytest.mark.parametrize(
    ("template", "piece"),
    [
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{{ raise_exception('no images') }}", "no images"),
        ("{{ messages[0].content.__class__.__mro__ }}", "SecurityError"),
        (COUNTED.replace("part.text", "1 + part.text"), "TypeError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages[0].contents.x }}", "UndefinedError"),
    ],
)
def test_what_cannot_be_rendered_is_refused(template, piece, tokenizer, tmp_path):
    with pytest.raises(ValueError) as error:
        check_templates(write(tmp_path, template), tokenizer, AUTO)
    assert piece in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_each_file_is_compared(tokenizer, tmp_path):
    write(tmp_path, COUNTED)
    write(tmp_path, chat_template(None), "chat_template.json")
    with pytest.raises(ValueError, match=r"/chat_template.json: chat_template and"):
        check_templates(tmp_path, tokenizer, AUTO)
    named = [
        {"name": "tool_use", "template": "x"},
        {"name": "default", "template": "y"},
    ]
    write(tmp_path, named)
    with pytest.raises(ValueError, match=r"tokenizer_config.json.*\n.*'y'"):
        check_templates(tmp_path, tokenizer, AUTO)
    write(tmp_path, ["x"])
    with pytest.raises(ValueError, match=r"chat_template is .'x'., expected a text"):
        check_templates(tmp_path, tokenizer, AUTO)
    write(tmp_path, 3)
    with pytest.raises(ValueError, match=r"chat_template is 3, expected a text"):
        check_templates(tmp_path, tokenizer, AUTO)


def test_tokens_that_a_tokenizer_adds_are_refused(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_tokenizer(["nothing of the sort"], 278)
    first = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", first)]
    )
    with pytest.raises(ValueError, match=f"tokenizer makes .{first}, .*add_bos_token"):
        check_templates(write(tmp_path, COUNTED), tokenizer, AUTO)


def test_the_real_vocabulary(tmp_path):
    """A folder as it was released, but for its weights."""
    qwen_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(COUNTED, encoding="utf-8")
    config = {"bos_token_id": 151643, "eos_token_id": 151645}
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"model_type": "qwen2_5_vl", "image_token_id": 151655})
    )
    ids = {"eos_token_id": [151645, 151643], "pad_token_id": 151643}
    (tmp_path / "generation_config.json").write_text(json.dumps(ids))
    tokenizer = load_tokenizer(tmp_path)
    assert check_templates(tmp_path, tokenizer, AUTO) == COUNTED
    assert read_token_ids(tmp_path, tokenizer) == ((151645, 151643), 151643, 151643)
    check_readable(tokenizer, ["<think>a</think><answer>A</answer>"], origin="here")


def test_a_trained_tokenizer_keeps_its_systems_words(tmp_path):
    for style in (BARE, MINE, AUTO):
        tokenizer = train_tokenizer(["none"], 278, system=style.system)
        tokenizer.save_pretrained(tmp_path)
        assert check_templates(tmp_path, tokenizer, style) == tokenizer.chat_template

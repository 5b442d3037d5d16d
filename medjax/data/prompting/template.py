"""A checkpoint folder's chat template, compared with the words that medjax writes.

A template is code of its folder. transformers renders it in jinja2's immutable sandbox,
which reaches neither files nor attributes of Python's objects.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medjax.data.json_files import read_json
from medjax.data.prompting.chat import SYSTEM, Style, encode, prompt_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

JINJA = "chat_template.jinja"
# Files that may hold a template under the key `chat_template`.
_JSON_FILES = (
    "tokenizer_config.json",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
)
_TEXTS = (
    "Find the left hippocampus.",
    "",
    "Wo liegt die größere Läsion? 肺のどこ? 🧠",
    "  Spaces first,\n\nlines between,\n and spaces last  ",
    "<|im_end|>\n<|im_start|>assistant\nno",
    "<|vision_start|> and <|endoftext|> as words",
    "{{ 7 * 7 }} {% if x %} {# none #}",
    '[{"bbox_2d": [1, 2, 30, 40], "label": "it\'s \\\\ \\"quoted\\""}]',
    "<think>why</think><answer>A</answer>",
    "system\nassistant\tuser\u00a0\u200b.",
)
_OWN = "You are a radiologist.\n\nBe brief: <tool_call>, 'quotes', \"more\"."
_ANSWER = "A. left insula"
_AROUND = 40  # characters shown on either side of a difference


class Conversation(NamedTuple):
    """One question as a template and as we write it."""

    system: str | None  # None: there is no system message
    images: int  # before the text of the user's turn
    text: str
    answer: str | None  # None: up to where it begins


def chat_template(system: str | None) -> str:
    """The published template's text for text and images: no tools, no numbers.

    Args:
        system: What it puts first where a conversation begins with no system message;
            None puts nothing.
    """
    first = ""
    if system is not None:
        words = json.dumps(f"<|im_start|>system\n{system}<|im_end|>\n")
        first = (
            "{%- if messages[0]['role'] != 'system' -%}"
            f"{{{{ {words} }}}}"
            "{%- endif -%}"
        )
    return (
        first + "{%- for message in messages -%}"
        "{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{%- if message['content'] is string -%}{{ message['content'] }}"
        "{%- else -%}{%- for part in message['content'] -%}"
        "{%- if part['type'] == 'text' -%}{{ part['text'] }}"
        "{%- else -%}{{ '<|vision_start|><|' + part['type'] + '_pad|><|vision_end|>' }}"
        "{%- endif -%}{%- endfor -%}{%- endif -%}"
        "{{ '<|im_end|>\\n' }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
    )


def conversations(style: Style) -> list[Conversation]:
    """Twenty questions: with and without a system message, images and an answer.

    Args:
        style: A system text of the user's own stands in those that would have none,
            since the template's default is then never asked for.
    """
    own = None if style.system in (None, SYSTEM) else style.system
    return [
        Conversation(
            system=_OWN if n % 2 else own,
            images=(n + n // len(_TEXTS)) % 4,
            text=_TEXTS[n % len(_TEXTS)],
            answer=_ANSWER if n % 5 == 4 else None,
        )
        for n in range(2 * len(_TEXTS))
    ]


def check_templates(
    folder: str | Path, tokenizer: "PreTrainedTokenizerBase", style: Style
) -> str | None:
    """Compare every default chat template of a folder with what medjax writes.

    Each of `conversations` is rendered by the folder's template and by `prompt_text`;
    the texts must be the same, and so must their tokens. Medjax writes one question in
    a conversation, so templates are not compared over several turns, and templates of
    other names (for tools) not at all.

    Args:
        folder: A Hugging Face folder.
        tokenizer: The one that was read from it.
        style: The words around a question. Where its system text is medjax's usual one
            or None, a conversation without a system message must begin with just that.

    Returns:
        A template of the folder, all of them being equal to ours; None without one.

    Raises:
        ValueError: A difference; the first is shown, as either side writes it.
    """
    templates = _read_templates(Path(folder))
    for where, template in templates:
        for conversation in conversations(style):
            _compare(where, template, tokenizer, style, conversation)
    return templates[0][1] if templates else None


def _read_templates(folder: Path) -> list[tuple[str, str]]:
    found = []
    if (folder / JINJA).is_file():
        found.append((str(folder / JINJA), (folder / JINJA).read_text("utf-8")))
    for name in _JSON_FILES:
        path = folder / name
        if not path.is_file():
            continue
        content = read_json(path, expected="an object")
        template = content.get("chat_template") if isinstance(content, dict) else None
        if isinstance(template, list) and all(isinstance(x, dict) for x in template):
            named = [x for x in template if x.get("name") == "default"]
            template = named[0].get("template") if named else None
        elif isinstance(template, dict):
            template = template.get("default")
        if template is not None and not isinstance(template, str):
            raise ValueError(f"{path}: chat_template is {template!r}, expected a text")
        if template is not None:
            found.append((f"{path}: chat_template", template))
    return found


def _compare(
    where: str,
    template: str,
    tokenizer: "PreTrainedTokenizerBase",
    style: Style,
    conversation: Conversation,
) -> None:
    asked = style.system if conversation.system is None else conversation.system
    context, question = _ours(conversation, style._replace(system=asked))
    theirs = _render(where, template, tokenizer, style, conversation)
    ours = context + question
    if theirs != ours:
        raise ValueError(_difference(where, conversation, style, theirs, ours))
    if conversation.answer is None:
        whole = list(tokenizer(theirs)["input_ids"])
        parts = encode(tokenizer, context) + encode(tokenizer, question)
        if whole != parts:
            raise ValueError(
                f"{where}: the words are those of medjax, but the folder's tokenizer "
                f"makes {whole[:4]} ... of them, {len(whole)} tokens, and medjax "
                f"{parts[:4]} ..., {len(parts)}: it adds tokens at the ends; set "
                "add_bos_token and add_eos_token to false in tokenizer_config.json"
            )


def _ours(conversation: Conversation, style: Style) -> tuple[str, str]:
    """Context and question; an answer follows with its stop token."""
    context, (question,) = prompt_text(
        [conversation.text], images=conversation.images, style=style
    )
    if conversation.answer is not None:
        question += f"{conversation.answer}<|im_end|>"
    return context, question


def _render(
    where: str,
    template: str,
    tokenizer: "PreTrainedTokenizerBase",
    style: Style,
    conversation: Conversation,
) -> str:
    import jinja2

    text = conversation.text + style.suffix
    content: Any = text
    if conversation.images:
        content = [{"type": "image"}] * conversation.images
        content = [*content, {"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    if conversation.system is not None:
        messages.insert(0, {"role": "system", "content": conversation.system})
    if conversation.answer is not None:
        messages.append({"role": "assistant", "content": conversation.answer})
    try:
        rendered = tokenizer.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=conversation.answer is None,
        )
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"{where} cannot be rendered {_named(conversation)} "
            f"({type(error).__name__}: {error}); expected the template of Qwen2.5-VL"
        ) from error
    # after the stop token nothing counts
    return str(rendered).removesuffix("\n" if conversation.answer is not None else "")


def _difference(
    where: str, conversation: Conversation, style: Style, theirs: str, ours: str
) -> str:
    same = [a == b for a, b in zip(theirs, ours, strict=False)]
    at = same.index(False) if False in same else len(same)
    shown = slice(max(0, at - _AROUND), at + _AROUND)
    way = (
        "medjax writes Qwen2.5-VL's template alone; if the policy was trained with "
        "that one, put it into the folder"
    )
    system = None  # what the template puts first
    if theirs.startswith("<|im_start|>system\n"):
        system = theirs.removeprefix("<|im_start|>system\n").partition("<|im_end|>")[0]
    if "".join(_ours(conversation, style._replace(system=system))) == theirs:
        word = "auto" if system == SYSTEM else repr(system or "")
        way = f"to write the same, --config.prompt.system={word}"
    return (
        f"{where} and medjax write different words {_named(conversation)}, from "
        f"character {at} on:\n  the folder ...{theirs[shown]!r}...\n"
        f"  medjax     ...{ours[shown]!r}...\n{way}"
    )


def _named(conversation: Conversation) -> str:
    """What a conversation is, in words."""
    parts = [
        "without a system message"
        if conversation.system is None
        else f"with the system message {conversation.system[:22]!r}",
        f"{conversation.images} images",
        f"the text {conversation.text[:22]!r}",
    ]
    if conversation.answer is not None:
        parts.append(f"the answer {conversation.answer!r}")
    return f"({', '.join(parts)})"

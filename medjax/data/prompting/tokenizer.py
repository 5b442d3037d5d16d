"""Tokenizers in Qwen2.5-VL's form: load one, train a small one, tabulate its bytes.

All are byte-level BPEs with NFC and Qwen's pre-tokenizer, which keeps each digit a
token of its own. transformers is imported where it is used.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medjax.data.prompting.chat import SYSTEM
from medjax.data.prompting.template import chat_template
from medjax.data.prompting.vocabulary import byte_letters, vocabulary_bytes
from medjax.rl.text.boxes import ParseTables, build_tables

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)  # published order; ids follow the vocabulary's (151643 on)
ADDED_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)  # after those; text to a decoder that skips special tokens
ANSWER_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
REQUIRED_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
)
STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")


def load_tokenizer(path: str | Path) -> "PreTrainedTokenizerBase":
    """Load a Hugging Face folder (or hub name) and check that it can serve the policy.

    Args:
        path: A folder, or a name on the hub, which transformers then looks up.

    Raises:
        ValueError: transformers reads no tokenizer there, tokens that prompts need are
            not in it (the message lists them), or merges are missing.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
        tokenizer("a")  # reads what is said of lengths
    except (
        *(OSError, ValueError, LookupError, TypeError, AttributeError),
        StrictDataclassError,  # a value of another kind in config.json
    ) as error:
        raise ValueError(
            f"{path}: no tokenizer can be read here ({type(error).__name__}: {error}); "
            "expected a folder with tokenizer.json, or vocab.json and merges.txt, and "
            "a whole tokenizer_config.json"
        ) from error
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in REQUIRED_TOKENS if token not in vocabulary]
    if missing:
        raise ValueError(
            f"{path}: the tokenizer has {len(vocabulary)} tokens and none for "
            f"{', '.join(missing)}; expected Qwen2.5-VL's or one of train_tokenizer "
            "(is tokenizer.json in the folder?)"
        )
    _check_merges(path, tokenizer)
    return tokenizer


def _check_merges(path: str | Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Refuse merges that were cut short: each makes one token, but for single bytes."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    content = {} if backend is None else json.loads(backend.to_str())
    model = content.get("model", {})
    if model.get("type") != "BPE":
        return
    added = {token["content"] for token in content["added_tokens"]}
    made = sum(len(token) > 1 for token in model["vocab"] if token not in added)
    merges = len(model.get("merges") or ())
    if merges < made:
        raise ValueError(
            f"{path}: the tokenizer has {made} tokens of several letters, but merges "
            f"for {merges} only: texts would fall apart into other tokens; is "
            "tokenizer.json or merges.txt whole?"
        )


def check_readable(
    tokenizer: "PreTrainedTokenizerBase", answers: Sequence[str], *, origin: str
) -> None:
    """Refuse a tokenizer with special tokens that an answer is made of.

    A special token is silent when a completion is read, so a tag that is one could
    never be found.

    Args:
        tokenizer: The policy's own.
        answers: Right answers, without the stop token.
        origin: What the error calls the tokenizer's folder.

    Raises:
        ValueError: A special token stands in an answer, or is one of `ANSWER_TAGS`.
    """
    added = tokenizer.added_tokens_decoder.values()
    silent = {token.content for token in added if token.special}
    silent |= set(tokenizer.all_special_tokens)
    heard = "".join((*ANSWER_TAGS, *answers))
    found = sorted(token for token in silent if token and token in heard)
    if found:
        raise ValueError(
            f"{origin}: {', '.join(found)} are special tokens of its tokenizer, which "
            "stay silent when a completion is read, but an answer is made of them; set "
            '"special": false for them in tokenizer.json (added_tokens) and in '
            "tokenizer_config.json (added_tokens_decoder), and take them out of "
            "additional_special_tokens"
        )


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", path: str | Path) -> None:
    """Write a folder that `load_tokenizer` and any transformers program reads.

    Args:
        tokenizer: Any tokenizer of transformers.
        path: The folder; it is made, and files of these names in it are replaced.
    """
    tokenizer.save_pretrained(str(path))


def train_tokenizer(
    corpus: Iterable[str],
    vocab_size: int,
    *,
    extra_tokens: Sequence[str] = (),
    system: str | None = SYSTEM,
) -> "PreTrainedTokenizerBase":
    """Train a small tokenizer; the same corpus gives the same one.

    Args:
        corpus: Texts to learn merges from, in any order; a piece that occurs once is
            not learnt.
        vocab_size: The most ids in all: 256 bytes, merges, 22 added tokens,
            `extra_tokens`. There are fewer where the corpus runs out of pieces.
        extra_tokens: Further texts to hold as one token, such as ANSWER_TAGS, which
            makes a tiny policy's answers shorter. They are not special.
        system: What its chat template puts first where there is no system message;
            None puts nothing.

    Raises:
        ValueError: There is no room for the bytes and the added tokens.
    """
    from tokenizers.trainers import BpeTrainer

    added = (*SPECIAL_TOKENS, *ADDED_TOKENS, *extra_tokens)
    room = vocab_size - len(added)
    if room < 256:
        raise ValueError(
            f"vocab_size {vocab_size} leaves {room} ids for the 256 bytes beside "
            f"{len(added)} added tokens; it must be {256 + len(added)} or more"
        )
    backend: Any = assemble_tokenizer({}, [], (), SYSTEM).backend_tokenizer
    cut = re.compile("|".join(map(re.escape, added)))
    backend.train_from_iterator(
        # Added tokens are cut out of a text before the merges see it.
        (piece for text in corpus for piece in cut.split(text)),
        BpeTrainer(
            vocab_size=room,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=sorted(byte_letters().values()),
        ),
    )
    model = json.loads(backend.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return assemble_tokenizer(model["vocab"], merges, added, system)


def parse_tables(tokenizer: "PreTrainedTokenizerBase", vocab_size: int) -> ParseTables:
    """Tables with which `parse_completions` reads this tokenizer's ids.

    Args:
        tokenizer: Any tokenizer that `vocabulary_bytes` reads.
        vocab_size: V, the rows of the policy's embedding.

    Raises:
        ValueError: `vocab_size` is below the tokenizer's length, or a decoder that does
            not write the same bytes for a token wherever it stands.
    """
    return build_tables(vocabulary_bytes(tokenizer, vocab_size))


def stop_ids(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Ids that end a completion, <|im_end|> first (Qwen2.5-VL's own pair).

    Args:
        tokenizer: One of the Qwen2.5-VL family.
    """
    vocabulary = tokenizer.get_vocab()
    return tuple(vocabulary[token] for token in STOP_TOKENS if token in vocabulary)


def assemble_tokenizer(
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    added: Sequence[str],
    system: str | None,
) -> "PreTrainedTokenizerBase":
    """A byte-level BPE with Qwen's pre-tokenizer, from its parts.

    Args:
        vocabulary: Ids from 0 on without gaps, by tokens in the letters of
            `byte_letters`; may be empty.
        merges: Pairs of tokens that become one, the first learnt first; each pair and
            what it makes stand in the vocabulary.
        added: Texts to hold as one token, their ids following the vocabulary's; those
            of `SPECIAL_TOKENS` are special. With none, there is no stop token either.
        system: What the chat template puts first where there is no system message; None
            puts nothing.
    """
    from transformers import AddedToken, Qwen2Tokenizer

    qwen: Any = Qwen2Tokenizer  # its annotations do not know what it takes
    tokenizer = qwen(
        vocab=vocabulary,
        merges=merges,
        unk_token=None,
        eos_token=None,
        pad_token=None,
        padding_side="left",
        chat_template=chat_template(system),
    )
    if added:
        tokenizer.add_tokens(
            [
                AddedToken(text, special=text in SPECIAL_TOKENS, normalized=False)
                for text in added
            ]
        )
        tokenizer.eos_token, tokenizer.pad_token = STOP_TOKENS
    return tokenizer


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A checksum of the vocabulary, added tokens included: which text each id is.

    Args:
        tokenizer: Any tokenizer of transformers.

    Returns:
        Hexadecimal digits; equal where all ids write the same.
    """
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(vocabulary.encode()).hexdigest()[:16]

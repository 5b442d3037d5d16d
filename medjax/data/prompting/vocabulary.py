"""What each token of a tokenizer writes, read off the tokenizer's own decoder.

A tokenizer's kind is its decoder, not the letters of its tokens: a WordPiece vocabulary
is spelt in plain ASCII, as a byte-level one may be, and yet its decoder puts a space
between any two words.
"""

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_READ = ("ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace")


def vocabulary_bytes(tokenizer: Any, vocab_size: int) -> list[bytes]:  # noqa: ANN401
    """The bytes that each id writes inside a text, as `build_tables` takes them.

    Read are byte-level BPEs (Qwen, GPT-2, Llama 3) and the kinds with byte fallback or
    with "▁" for a space (Llama 2, Mistral, Gemma, T5), as transformers, tokenizers or
    sentencepiece hold them, and encodings of tiktoken. A space that a decoder drops at
    the start of a whole text is kept: inside a text the same token writes it.

    Args:
        tokenizer: A tokenizer of transformers, a `tokenizers.Tokenizer`, a
            `sentencepiece.SentencePieceProcessor` or a `tiktoken.Encoding`.
        vocab_size: V, the rows of the policy's embedding; at least as many as the
            tokenizer has ids.

    Returns:
        One entry an id, 0 to V - 1: what decode() with skip_special_tokens makes of it,
        so b"" for special tokens and for ids without a token.

    Raises:
        ValueError: a tokenizer of none of these kinds, a `vocab_size` below its ids, or
            a decoder that does not write the same bytes for a token wherever it stands
            (WordPiece among them).
    """
    if hasattr(tokenizer, "decode_single_token_bytes"):
        written = _of_tiktoken(tokenizer)
    elif hasattr(tokenizer, "id_to_piece"):
        written = _of_sentencepiece(tokenizer)
    elif hasattr(tokenizer, "sp_model"):
        written = _of_sentencepiece(tokenizer.sp_model)
        written |= _added(tokenizer, str.encode)
    else:
        written = _of_tokenizers(tokenizer)
    ids = max(written, default=-1) + 1
    if vocab_size < ids:
        raise ValueError(
            f"vocabulary_bytes: vocab_size {vocab_size} is below the tokenizer's {ids} "
            "ids; give the rows of the policy's embedding"
        )
    return [written.get(index, b"") for index in range(vocab_size)]


def _of_tiktoken(encoding: Any) -> dict[int, bytes]:
    special = encoding.special_tokens_set
    written = {}
    for index in range(encoding.n_vocab):
        try:
            data = encoding.decode_single_token_bytes(index)
        except KeyError:  # a gap between the ranks and the special tokens
            continue
        named = data.decode("utf-8", "replace") in special
        # a special token's text may also be an ordinary token of another id
        written[index] = b"" if named and encoding.is_special_token(index) else data
    return written


def _of_sentencepiece(model: Any) -> dict[int, bytes]:
    written = {}
    for index in range(model.get_piece_size()):
        piece = model.id_to_piece(index)
        silent = model.is_control(index) or model.is_unused(index)
        if silent or model.is_unknown(index):
            written[index] = b""
        elif model.is_byte(index):
            written[index] = _fall_back(piece)
        else:
            written[index] = piece.replace("▁", " ").encode()
    return written


def _of_tokenizers(tokenizer: Any) -> dict[int, bytes]:
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        raise ValueError(
            f"vocabulary_bytes: tokenizer: a {type(tokenizer).__name__} is none of "
            "transformers, tokenizers, sentencepiece or tiktoken; give build_tables a "
            "list of what each id writes"
        )
    decoder = json.loads(backend.to_str())["decoder"]
    letters = {letter: byte for byte, letter in byte_letters().items()}
    write = partial(_write, steps=_steps(decoder), letters=letters)
    written = {i: write(text) for text, i in backend.get_vocab(False).items()}
    return written | _added(tokenizer, write)


def _added(tokenizer: Any, write: Any) -> dict[int, bytes]:
    """Tokens that stand beside the model's, and special ones of the model."""
    if hasattr(tokenizer, "added_tokens_decoder"):
        added = tokenizer.added_tokens_decoder
    else:
        added = tokenizer.get_added_tokens_decoder()
    silent = set(getattr(tokenizer, "all_special_ids", ()))
    written = {
        index: b"" if token.special else write(token.content)
        for index, token in added.items()
    }
    return written | dict.fromkeys(silent, b"")


def _steps(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The decoder's parts in order; what depends on a token's neighbours is refused."""
    decoder = decoder or {"type": "none, which puts spaces between tokens"}
    parts = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    fused = False
    for part in parts:
        kind = part["type"]
        literal = kind != "Replace" or "String" in part["pattern"]
        whole = kind != "Strip" or fused  # then it acts on the ends of the text
        if kind not in _READ or not literal or not whole:
            raise ValueError(
                f"vocabulary_bytes: tokenizer: its decoder is {kind}; expected "
                f"one of {', '.join(_READ)}, which write each token alone. What its "
                "tokens write depends on their neighbours, so completions cannot be "
                "read token by token: decode them and read the text by parse_text"
            )
        fused |= kind == "Fuse"
    return parts


def _write(
    text: str, steps: list[Mapping[str, Any]], letters: Mapping[str, int]
) -> bytes:
    for step in steps:
        kind = step["type"]
        if kind == "ByteLevel":
            spelt = set(text) <= letters.keys()  # others are written as they are
            return bytes(letters[x] for x in text) if spelt else text.encode()
        if kind == "ByteFallback" and _BYTE.fullmatch(text):
            return _fall_back(text)
        if kind == "Replace":
            text = text.replace(step["pattern"]["String"], step["content"])
        if kind == "Metaspace":
            text = text.replace(step["replacement"], " ")
    return text.encode()


def _fall_back(piece: str) -> bytes:
    return bytes([int(piece[3:5], 16)])


def byte_letters() -> dict[int, str]:
    """The letter that byte-level BPE files write for each byte (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted(set(range(256)) - set(printable))
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + at) for at, byte in enumerate(others)}

"""Own tokenizers of three kinds: the bytes of each token, then boxes on the device.

What each library's own decode() writes, read by `parse_text`, is the independent value:
byte-level BPE (GPT-2, Qwen, Llama 3), sentencepiece's letters with byte fallback
(Llama 2, Gemma, Mistral) and tiktoken.
"""

import jax
import numpy as np
import pytest
import tiktoken
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from medjax.rl import build_tables, parse_completions, parse_text

pytestmark = pytest.mark.usefixtures("plain_jax")

BOX = '<think>links, größer 肺</think><answer>{"bbox_2d": [10, 20.5, -3, 4e1]}</answer>'
TEXTS = [
    '<think>a</think><answer>{"bbox_2d": [10, 20, 30, 40]}</answer>',
    '  <think>a\n</think> <answer>{"bbox_2d":[1.25,  2, 3.5, 4]}</answer>\n',
    BOX,
    BOX.replace("4e1", "41"),
    '<answer>{"bbox_2d": [0, -1, 2, 3]}</answer><answer>no</answer>',
    "<think>🫁 no box",
    "",
]
CORPUS = [*TEXTS, '"bbox_2d": [ 12, 345, 6789,', "think answer </think>\n<answer>"] * 3
END = "<|end|>"


def gpt2():
    """Byte-level BPE: one letter of GPT-2's table stands for each byte."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=[END],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    letters |= {chr(256 + at): byte for at, byte in enumerate(others)}
    pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    token_bytes = [
        b"" if piece == END else bytes(letters[letter] for letter in piece)
        for piece in pieces
    ]
    return (
        token_bytes,
        lambda text: tokenizer.encode(text).ids,
        tokenizer.decode,
        pieces.index(END),
    )


def llama():
    """sentencepiece: "▁" is a space, "<0x0A>" one byte of a letter without a token."""
    letters = sorted({c for c in "".join(TEXTS).replace(" ", "▁") if ord(c) < 0x2600})
    merged = ["▁a", "an", "ans", "bb", "bbo", "th", "th" + "i", "▁{", "[1"]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = [END, *fallback, *dict.fromkeys(["▁", *letters, *merged])]
    ids = {piece: index for index, piece in enumerate(pieces)}
    pairs = [(piece[:-1], piece[-1]) for piece in merged]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(ids, pairs, byte_fallback=True, fuse_unk=True, unk_token=None)
    )
    tokenizer.add_special_tokens([END])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    token_bytes = [
        b""
        if piece == END
        else bytes([int(piece[3:5], 16)])
        if piece in fallback
        else piece.replace("▁", " ").encode()
        for piece in pieces
    ]
    return token_bytes, lambda text: tokenizer.encode(text).ids, tokenizer.decode, 0


def gpt4():
    """tiktoken holds bytes as they are."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    for piece in [b"an", b"ans", b"answ", b"th", b"in", b"</", b'":', b", "]:
        ranks[piece] = len(ranks)
    special = len(ranks) + 2  # two ids without a token before it
    encoding = tiktoken.Encoding(
        name="small",
        pat_str=r"\p{L}+|\p{N}{1,3}|\s+|[^\p{L}\p{N}\s]+",
        mergeable_ranks=ranks,
        special_tokens={END: special},
    )
    token_bytes = [b""] * encoding.n_vocab
    for index in ranks.values():
        token_bytes[index] = encoding.decode_single_token_bytes(index)

    def decode(ids):
        return encoding.decode([i for i in ids if i != special])

    return token_bytes, encoding.encode, decode, special


KINDS = {"GPT-2": gpt2, "Llama": llama, "tiktoken": gpt4}


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_are_those_of_the_decoded_text(kind):
    token_bytes, encode, decode, end = KINDS[kind]()
    rows = [[*encode(text), end] for text in TEXTS]
    assert max(map(len, rows)) < len(BOX.encode()) + 3
    assert any(len(data) > 1 for data in token_bytes)
    tokens = np.full((len(rows), max(map(len, rows)) + 2), end, np.int32)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    lengths = np.array([len(ids) for ids in rows])[:, None]
    mask = np.arange(tokens.shape[1]) < lengths
    tables = build_tables(token_bytes)
    found = jax.jit(parse_completions)(tokens, mask, tables)
    for row, (ids, text) in enumerate(zip(rows, TEXTS, strict=True)):
        assert decode(ids).strip() == text.strip()
        expected = parse_text(decode(ids))
        for name, value in expected._asdict().items():
            np.testing.assert_array_equal(
                getattr(found, name)[row], value, err_msg=f"{text!r}: {name}"
            )
    assert found.box_found.tolist() == [True, True, False, True, True, False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_the_tokens_are_the_text(kind):
    token_bytes, encode, _, _ = KINDS[kind]()
    first = " " if kind == "Llama" else ""  # sentencepiece puts a space before a text
    for text in TEXTS:
        written = b"".join(token_bytes[index] for index in encode(text))
        assert written.decode() == (first + text if text else "")

"""What tokens write, of tokenizers of every kind, against their own decoders."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from medjax.data.prompting.vocabulary import byte_letters, vocabulary_bytes
from medjax.rl import build_tables, parse_completions, parse_text

ANSWER = '<think>a b</think><answer>{"bbox_2d": [1, 2.5, -3, 40]}</answer>'
LLAMA = decoders.Sequence(
    [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)


def tokenizer_of(texts, decoder, model=models.BPE):
    vocabulary = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    arguments = (vocabulary, []) if model is models.BPE else (vocabulary,)
    tokenizer = Tokenizer(model(*arguments))
    if decoder is not None:
        tokenizer.decoder = decoder
    return tokenizer


def gpt2():
    letters = byte_letters()
    words = ["Ġliver", "größe", "ĊĊ"]  # the second is written as it is: ö is a letter
    return tokenizer_of([*letters.values(), *words], decoders.ByteLevel())


def llama():
    fallback = [f"<0x{n:02X}>" for n in range(256)]
    return tokenizer_of([*fallback, "▁liver", "▁", *map(chr, range(33, 127))], LLAMA)


def metaspace():
    texts = ["▁liver", "▁", "ß", *map(chr, range(33, 127))]
    return tokenizer_of(texts, decoders.Metaspace())


KINDS = {"gpt2": gpt2, "llama": llama, "metaspace": metaspace}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_inside_a_text_as_decoded(kind):
    """A token between two others, whatever its decoder does at a text's start."""
    tokenizer = KINDS[kind]()
    tokenizer.add_tokens(["<tool>", "a b"])
    tokenizer.add_special_tokens(["<end>"])
    size = tokenizer.get_vocab_size() + 3
    written = vocabulary_bytes(tokenizer, size)
    a, rng = tokenizer.token_to_id("a"), np.random.default_rng(0)
    usable = np.arange(size - 3)
    if kind == "llama":  # its decoder loses whole runs of bytes that are no UTF-8
        usable = usable[[data.isascii() for data in written[:-3]]]
    for _ in range(300):
        ids = [a, *rng.choice(usable, 5).tolist(), a]
        spelt = b"".join(written[n] for n in ids).decode(errors="replace")
        assert tokenizer.decode(ids, skip_special_tokens=True) == spelt
    assert written[-4:] == [b"", b"", b"", b""]  # <end>, and ids without a token


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_read_as_from_the_decoded_text(kind):
    tokenizer = KINDS[kind]()
    texts = {"gpt2": ANSWER.replace(" ", "Ġ")}.get(kind, ANSWER.replace(" ", "▁"))
    ids = np.array([[tokenizer.token_to_id(x) for x in texts]], np.int32)
    tables = build_tables(vocabulary_bytes(tokenizer, tokenizer.get_vocab_size()))
    found = parse_completions(ids, np.ones(ids.shape, bool), tables)
    expected = parse_text(tokenizer.decode(ids[0].tolist()))
    assert expected.box_found
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left[0], right)


@pytest.mark.parametrize(
    ("decoder", "name"),
    [
        (decoders.WordPiece(), "WordPiece"),
        (decoders.WordPiece(cleanup=False), "WordPiece"),
        (decoders.BPEDecoder("</w>"), "BPEDecoder"),
        (decoders.CTC(), "CTC"),
        (decoders.Strip(" ", 1, 0), "Strip"),
        (None, "none, which puts spaces between tokens"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_depends_on_neighbours_is_refused(decoder, name):
    """Also where every token is spelt in byte-level letters, as ASCII is."""
    tokenizer = tokenizer_of(["[UNK]", *'"bbox_2d:[]<>/', "ans", "##wer"], decoder)
    with pytest.raises(ValueError, match=f"decoder is {name}") as error:
        vocabulary_bytes(tokenizer, 64)
    assert "parse_text" in str(error.value)


def test_transformers_of_the_same_tokenizers():
    from transformers import PreTrainedTokenizerFast

    for kind in KINDS.values():
        backend = kind()
        backend.add_special_tokens(["<end>"])
        wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="a")
        expected = vocabulary_bytes(backend, 400)
        special = backend.get_vocab()["a"]
        expected[special] = b""  # the padding, and so not written
        assert vocabulary_bytes(wrapped, 400) == expected


def test_tiktoken():
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([n]): n for n in range(256)} | {b" liver": 256}
    encoding = tiktoken.Encoding(
        "own", pat_str=r".", mergeable_ranks=ranks, special_tokens={"<|end|>": 260}
    )
    written = vocabulary_bytes(encoding, 264)
    assert written[:257] == [*(bytes([n]) for n in range(256)), b" liver"]
    assert written[257:] == [b""] * 7  # gaps, <|end|>, the policy's further rows


class Pieces:
    """What `sentencepiece.SentencePieceProcessor` answers of a small model."""

    PIECES = ("<unk>", "<s>", "<0x0A>", "▁liver", "ß", "▁")

    def get_piece_size(self):
        return len(self.PIECES)

    def id_to_piece(self, index):
        return self.PIECES[index]

    def is_unknown(self, index):
        return index == 0

    def is_control(self, index):
        return index == 1

    def is_byte(self, index):
        return index == 2

    def is_unused(self, index):
        return False


def test_sentencepiece():
    expected = [b"", b"", b"\n", b" liver", "ß".encode(), b" "]
    assert vocabulary_bytes(Pieces(), 6) == expected


def test_sizes_and_strangers_are_refused():
    with pytest.raises(ValueError, match=r"vocab_size 5 is below the tokenizer's 259"):
        vocabulary_bytes(gpt2(), 5)
    with pytest.raises(ValueError, match="a dict is none of .* give build_tables"):
        vocabulary_bytes({"a": 0}, 5)

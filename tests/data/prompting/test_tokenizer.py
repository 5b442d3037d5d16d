"""Tokenizers: the published facts of Qwen's, determinism, tables, refusals."""

import hashlib
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from medjax.data.prompting import tokenizer as tok
from tests.data.prompting.qwen_ranks import qwen_tokenizer, read_ranks

CORPUS = [
    "Find the left hippocampus in this T1-weighted MRI slice.",
    '<think>left thalamus</think><answer>{"bbox_2d": [12, 345, 67, 890]}</answer>',
    "<|im_start|>user\nWhere is the left lung?<|im_end|>",
    "größer als 3 µm; naïve",
] * 3
TEXT = CORPUS[1] + "<|im_end|>"


@pytest.fixture(scope="module")
def small():
    return tok.train_tokenizer(CORPUS, 400, extra_tokens=tok.ANSWER_TAGS)


@pytest.fixture(scope="module")
def qwen():
    return qwen_tokenizer()


def bytes_of(tables, ids):
    spelt = bytes(tables.vocab_bytes)
    starts, lengths = tables.vocab_start.tolist(), tables.vocab_length.tolist()
    return b"".join(spelt[starts[i] : starts[i] + lengths[i]] for i in ids)


def test_published_ids(qwen):
    assert len(qwen) == 151_665
    assert qwen.encode("hello world") == [14990, 1879]
    added = (*tok.SPECIAL_TOKENS, *tok.ADDED_TOKENS)
    assert qwen.convert_tokens_to_ids(list(added)) == list(range(151_643, 151_665))
    assert qwen.convert_tokens_to_ids("<|image_pad|>") == 151_655
    assert tok.stop_ids(qwen) == (151_645, 151_643)
    assert (qwen.eos_token, qwen.pad_token) == ("<|im_end|>", "<|endoftext|>")
    box = '[{"bbox_2d": [12, 345, 1024, 7], "label": "left lung"}]'
    assert len(qwen.encode(box)) == 33


def test_same_tokens_as_tiktoken(qwen):
    tiktoken = pytest.importorskip("tiktoken")
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    peer = tiktoken.Encoding(
        "qwen",
        pat_str=PRETOKENIZE_REGEX,
        mergeable_ranks=read_ranks(),
        special_tokens={},
    )
    rng = random.Random(0)
    words = "left lung 12.5 mm  \n\n\tIt's naïve 肺 🧠 don't <answer> ___ T2*-weighted"
    texts = [" ".join(rng.choices(words.split(" "), k=30)) for _ in range(300)]
    assert [qwen.encode(text) for text in texts] == [peer.encode(t) for t in texts]


def test_tables_of_the_real_vocabulary(qwen):
    tables = tok.parse_tables(qwen, 152_064)
    assert tables.vocab_length.shape == tables.vocab_start.shape == (152_064,)
    assert tables.vocab_length.max() == 128
    assert bytes_of(tables, range(151_643)) == b"".join(read_ranks())
    assert bytes_of(tables, range(151_643, 151_657)) == b""
    assert (
        bytes_of(tables, range(151_657, 151_665)) == "".join(tok.ADDED_TOKENS).encode()
    )
    assert not tables.vocab_length[151_665:].any()
    assert tables.vocab_bytes.dtype == np.uint8
    assert tables.vocab_start.dtype == tables.vocab_length.dtype == np.int32


@pytest.mark.parametrize("name", ["small", "qwen"])
def test_tables_spell_what_decode_does(name, request):
    tokenizer = request.getfixturevalue(name)
    tables = tok.parse_tables(tokenizer, len(tokenizer))
    for text in (*CORPUS, TEXT, "🧠\u00a0x\r\n</answer> <tool_call>"):
        ids = tokenizer.encode(text)
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        assert bytes_of(tables, ids).decode() == decoded
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_small_tokenizer_has_qwens_form(small):
    added = (*tok.SPECIAL_TOKENS, *tok.ADDED_TOKENS, *tok.ANSWER_TAGS)
    first = small.convert_tokens_to_ids(added[0])
    assert small.convert_tokens_to_ids(list(added)) == list(
        range(first, first + len(added))
    )
    assert first + len(added) == len(small) <= 400
    tokens = small.tokenize(TEXT)
    assert all(token.isdigit() is False or len(token) == 1 for token in tokens)
    assert [token for token in tokens if token in added] == [
        *tok.ANSWER_TAGS,
        "<|im_end|>",
    ]
    assert small.encode("e\u0301") == small.encode("é")  # NFC
    assert small.decode(small.encode(TEXT), skip_special_tokens=True) == CORPUS[1]
    # Their texts teach no merges.
    assert [t for t in small.get_vocab() if "im_" in t and t not in added] == []


def test_a_tag_is_several_tokens_unless_asked_for():
    plain = tok.train_tokenizer(["nothing of the sort"], 278)
    assert len(plain) == 278  # the 256 bytes and the 22 added tokens
    assert len(plain.encode("<answer>")) == len("<answer>")


def test_vocabulary_must_hold_the_bytes():
    with pytest.raises(ValueError, match="must be 282 or more"):
        tok.train_tokenizer(CORPUS, 281, extra_tokens=tok.ANSWER_TAGS)


def test_training_is_deterministic(small):
    """Another process, with other hash seeds and threads, learns the same."""
    code = (
        "import sys, json; from medjax.data.prompting import tokenizer as t;"
        "c = json.load(sys.stdin);"
        "m = t.train_tokenizer(c, 400, extra_tokens=t.ANSWER_TAGS);"
        "print(json.dumps(m.get_vocab(), sort_keys=True),"
        " m.backend_tokenizer.to_str())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(CORPUS[::-1]),
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    vocabulary = json.dumps(small.get_vocab(), sort_keys=True)
    expected = f"{vocabulary} {small.backend_tokenizer.to_str()}\n"
    assert (
        hashlib.sha256(done.stdout.encode()).digest()
        == hashlib.sha256(expected.encode()).digest()
    )


def test_saved_and_loaded(small, tmp_path):
    tok.save_tokenizer(small, tmp_path)
    loaded = tok.load_tokenizer(tmp_path)
    assert loaded.get_vocab() == small.get_vocab()
    assert loaded.encode(TEXT) == small.encode(TEXT)
    assert tok.stop_ids(loaded) == tok.stop_ids(small)
    before, after = (tok.parse_tables(t, 512) for t in (small, loaded))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_chat_template_is_the_published_text(small):
    image = {"type": "image"}
    turn = {"role": "user", "content": [image, {"type": "text", "text": "QUESTION"}]}
    options = {"tokenize": False, "add_generation_prompt": True}
    asked = (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>QUESTION"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert small.apply_chat_template([turn], **options) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + asked
    )
    system = {"role": "system", "content": "Answer."}
    assert small.apply_chat_template([system, turn], **options) == (
        "<|im_start|>system\nAnswer.<|im_end|>\n" + asked
    )


def test_missing_special_tokens_are_listed(tmp_path):
    from transformers import Qwen2Tokenizer

    tokenizer = tok.train_tokenizer(CORPUS, 300)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = {**model["vocab"], "<|im_start|>": 400, "<|im_end|>": 401}
    Qwen2Tokenizer(vocab=vocabulary, merges=[]).save_pretrained(tmp_path)
    with pytest.raises(ValueError) as error:
        tok.load_tokenizer(tmp_path)
    text = str(error.value)
    assert str(tmp_path) in text
    assert "<|vision_start|>, <|vision_end|>, <|image_pad|>" in text
    assert "im_start" not in text


def test_unreadable_folders_are_named(small, tmp_path):
    tok.save_tokenizer(small, tmp_path / "cut")
    path = tmp_path / "cut" / "tokenizer.json"
    path.write_text(path.read_text()[:5000])
    (tmp_path / "empty").mkdir()
    for name in ("cut", "empty", "absent"):
        with pytest.raises(ValueError, match="no tokenizer can be read here") as error:
            tok.load_tokenizer(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
    path.unlink()
    with pytest.raises(ValueError, match="is tokenizer.json in the folder"):
        tok.load_tokenizer(tmp_path / "cut")


def test_tables_must_hold_the_vocabulary(small):
    with pytest.raises(ValueError, match=f"below the tokenizer's {len(small)} ids"):
        tok.parse_tables(small, len(small) - 1)

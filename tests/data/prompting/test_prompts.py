import jax
import numpy as np
import pytest

from medjax.data.prompting.chat import (
    SYSTEM,
    Style,
    answer_text,
    encode,
    longest_answers,
    special_tokens,
)
from medjax.data.prompting.layout import Geometry, mrope_positions
from medjax.data.prompting.prompts import (
    Buckets,
    answer_rows,
    bucket,
    build_prompt,
    check_features,
    plan_buckets,
)
from tests.data.prompting.qwen_ranks import qwen_tokenizer
from tests.oracles import qwen25vl_inputs as oracle

QWEN = Geometry(
    patch=14, merge=2, temporal=2, window=112, min_pixels=28**2, max_pixels=28**2 * 256
)
STYLE = Style(system=SYSTEM, suffix=" Answer.", answer="list")
BUCKETS = Buckets(windows=(1, 4, 8), context=(64, 160), question=(96,), answer=(96,))
IMAGES = [
    [oracle.picture(252, 140, 1), oracle.picture(112, 112, 2)],
    [oracle.picture(84, 56, 3)],
    [],
]
QUESTIONS = [["Which?", "Find the left insula."], ["a", "b"], ["Hello", "Bye"]]


def build(tokenizer, **change):
    options = {
        "origins": ("one", "two", "three"),
        "style": STYLE,
        "geometry": QWEN,
        "buckets": BUCKETS,
        "slots": 2,
    }
    images = change.pop("images", IMAGES)
    questions = change.pop("questions", QUESTIONS)
    return build_prompt(tokenizer, images, questions, **{**options, **change})


def test_rows_are_those_of_the_whole_prompt(tokenizer):
    """Each row's two segments, unpadded, equal the prompt tokenised as one."""
    prompt = build(tokenizer)
    pad = special_tokens(tokenizer).image_pad
    for n in range(6):
        b, q = divmod(n, 2)
        grids = [(i.shape[0] // 28, i.shape[1] // 28) for i in IMAGES[b]]
        text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
        for rows, columns in grids:
            text += f"<|vision_start|>{'<|image_pad|>' * rows * columns}<|vision_end|>"
        text += f"{QUESTIONS[b][q]} Answer.<|im_end|>\n<|im_start|>assistant\n"
        whole = np.array(encode(tokenizer, text))
        positions, following = mrope_positions(whole, grids, pad)
        context = jax.tree.map(lambda x, b=b: x[b], prompt.context)
        question = jax.tree.map(lambda x, n=n: x[n], prompt.question)
        for name, expected in (("tokens", whole), ("positions", positions)):
            halves = [
                np.asarray(getattr(part, name))[part.mask]
                for part in (context, question)
            ]
            np.testing.assert_array_equal(np.concatenate(halves), expected)
        assert prompt.next_position[n] == following
        assert question.mask[-1]
        assert (context.features[context.mask] >= 0).sum() == (whole == pad).sum()


def test_features_point_at_the_patches_of_their_token(tokenizer):
    prompt = build(tokenizer)
    block = QWEN.merge**2
    for b, row in enumerate(IMAGES):
        index = prompt.context.features[b]
        index = index[index >= 0]
        cells = prompt.images.rows_cols[b].reshape(-1, block, 2)[index]
        assert prompt.images.mask[b].reshape(-1, block)[index].all()
        expected = [
            [i, j]
            for image in row
            for i in range(image.shape[0] // 28)
            for j in range(image.shape[1] // 28)
        ]
        assert (cells[:, 0] // 2).tolist() == expected


def test_padding_is_on_the_left_and_shapes_are_buckets(tokenizer):
    prompt = build(tokenizer)
    assert prompt.images.patches.shape == (3, 2, 8 * 64, 1176)
    assert prompt.context.tokens.shape == (3, 160)
    assert prompt.question.tokens.shape == (6, 96)
    for segment in (prompt.context, prompt.question):
        steps = np.diff(segment.mask.astype(int), axis=1)
        assert (steps >= 0).all()
        assert (segment.features[~segment.mask] == -1).all()
    assert {x.dtype.name for x in jax.tree.leaves(prompt)} == {
        "int32",
        "float32",
        "bool",
    }
    one = build(tokenizer, images=IMAGES[1:2], questions=QUESTIONS[1:2], origins=("x",))
    assert one.images.patches.shape[2] == 64 and one.context.tokens.shape[1] == 64


def test_a_prompt_that_does_not_fit_is_refused_by_name(tokenizer):
    small = BUCKETS._replace(context=(16, 32))
    with pytest.raises(ValueError, match=r"one: context tokens: \d+ do not.*is 32"):
        build(tokenizer, buckets=small)
    small = BUCKETS._replace(question=(8,))
    with pytest.raises(ValueError, match="three: question tokens"):
        build(tokenizer, buckets=small)
    with pytest.raises(ValueError, match="windows of an image: 6"):
        build(tokenizer, buckets=BUCKETS._replace(windows=(1, 2)))
    with pytest.raises(ValueError, match="one: 2 images for 1 slots"):
        build(tokenizer, slots=1)


def test_image_tokens_in_a_question_are_refused_by_name(tokenizer):
    bad = [QUESTIONS[0], ["a", "what is <|image_pad|>?"], QUESTIONS[2]]
    with pytest.raises(ValueError, match="two: 1 image tokens for 0 image features"):
        build(tokenizer, questions=bad)
    with pytest.raises(ValueError, match="scan 3: 4 image tokens for 5"):
        check_features(4, 5, "scan 3")


def test_bucket():
    assert [bucket(n, (4, 8), "x") for n in (0, 4, 5, 8)] == [4, 4, 8, 8]
    with pytest.raises(ValueError, match="x: 9 do not fit, the largest size is 8"):
        bucket(9, (4, 8), "x")


def test_answers_end_with_the_stop_token(tokenizer):
    texts = [
        answer_text((1, 2, 3, 4), name, style="object") for name in ("a", "insula")
    ]
    tokens, mask = answer_rows(tokenizer, texts, origins=("x", "y"), lengths=(64, 96))
    stop = special_tokens(tokenizer).stop
    for row, kept, text in zip(tokens, mask, texts, strict=True):
        assert row[kept].tolist() == [*encode(tokenizer, text), stop]
        assert not kept[kept.sum() :].any()
    with pytest.raises(ValueError, match="y: answer tokens"):
        answer_rows(tokenizer, texts, origins=("x", "y"), lengths=(4,))


def test_planned_buckets_hold_everything_and_no_more(tokenizer):
    texts, names, sizes = (
        ("Find a.", "Where is the left insula?"),
        ("a",),
        ((252, 140),),
    )
    plan = plan_buckets(
        tokenizer,
        texts,
        longest_answers(names, sizes=sizes, style=STYLE.answer),
        sizes,
        style=STYLE,
        geometry=QWEN,
        slots=2,
        multiple=8,
    )
    image = [oracle.picture(252, 140, 1)] * 2
    prompt = build(
        tokenizer, images=[image], questions=[texts], origins="x", buckets=plan
    )
    for segment in (prompt.context, prompt.question):
        assert 0 <= segment.tokens.shape[1] - segment.mask.sum(axis=1).max() < 8
    assert plan.windows == (6,)


def test_the_real_vocabulary():
    """Published ids and a known count: 33 tokens for a box with four-digit corners."""
    real = qwen_tokenizer()
    assert special_tokens(real) == (151655, 151645, 151643)
    prompt = build(real)
    pads = (prompt.context.tokens == 151655).sum(axis=1)
    assert pads.tolist() == [9 * 5 + 4 * 4, 3 * 2, 0]
    text = answer_text((12, 345, 1024, 7), "left lung", style="list")
    inside = text.split("<answer>")[1].removesuffix("</answer>")
    assert len(encode(real, inside)) == 33

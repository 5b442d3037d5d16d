"""Sizes 0 and 1, static numbers and keys of the policy and the readers of text."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import medjax
from medjax import rl
from medjax.models import qwen25vl
from tests.reuse import qwen25vl_calls as policy
from tests.reuse import text_calls as texts

CONFIG, PARAMS = policy.CONFIG, policy.PARAMS
KEY = jax.random.key(0)


def first_prompts(count):
    return jax.tree.map(
        lambda x, axis: jax.lax.slice_in_dim(x, 0, count, axis=axis),
        policy.PREFILL,
        policy.ROW_PREFILL,
    )


def empty_texts(*shape):
    return np.zeros(shape, np.int32), np.zeros(shape, bool)


def step(carry, tokens, index):
    del index
    return jnp.zeros((len(tokens), 4), jnp.float32), carry


def draw(rows, **options):
    return rl.sample_loop(
        step,
        (),
        jnp.zeros((rows, 4), jnp.float32),
        rl.rollout_keys(KEY, jnp.arange(rows, dtype=jnp.int32), 1),
        **({"max_tokens": 3, "stop_tokens": (), "pad": 0} | options),
    )


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0,), (1, 1), (2, 0, 4)])
def test_texts_without_bytes_are_empty_texts(shape):
    tokens, mask = empty_texts(*shape)
    lead = shape[:-1]
    expected = rl.parse_text("")
    for left, right in zip(texts.parse_boxes(tokens, mask), expected, strict=True):
        assert left.shape == lead + right.shape
        np.testing.assert_array_equal(left, np.broadcast_to(right, left.shape))
    expected = rl.parse_label_text("", texts.FORMS)
    for left, right in zip(texts.parse_labels(tokens, mask), expected, strict=True):
        assert left.shape == lead + right.shape
        np.testing.assert_array_equal(left, np.broadcast_to(right, left.shape))
    span = np.zeros((*lead, 2), np.int32)
    score = rl.recitation_reward(
        tokens, mask, span, texts.TABLES, texts.REFERENCES, without_words=0.25
    )
    np.testing.assert_array_equal(score, np.full(lead, 0.25))


def test_ids_outside_the_vocabulary_write_nothing():
    tokens = np.where(texts.MASK, texts.IDS, -100)
    tokens = np.concatenate([np.full((8, 2), 10**6), tokens, np.full((8, 1), -1)], 1)
    mask = np.ones(tokens.shape, bool)
    found = texts.parse_boxes(tokens.astype(np.int32), mask)
    for left, right in zip(
        found, texts.parse_boxes(texts.IDS, texts.MASK), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_tables_and_what_was_parsed_go_through_a_file(tmp_path):
    found = texts.parse_boxes(texts.IDS, texts.MASK)
    np.savez(tmp_path / "parsed.npz", **found._asdict())
    np.savez(tmp_path / "tables.npz", **texts.TABLES._asdict())
    with np.load(tmp_path / "parsed.npz") as file:
        read = rl.Parsed(**file)
    with np.load(tmp_path / "tables.npz") as file:
        again = rl.parse_completions(texts.IDS, texts.MASK, rl.ParseTables(**file))
    for before, stored, after in zip(found, read, again, strict=True):
        np.testing.assert_array_equal(stored, before)
        np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(rl.format_reward(read.format), found.format)


def test_readers_are_exported_with_their_tables():
    def read(tokens, mask, *tables):
        return tuple(rl.parse_completions(tokens, mask, rl.ParseTables(*tables)))

    arguments = (texts.IDS, texts.MASK, *texts.TABLES)
    written = jax.export.export(jax.jit(read))(*arguments).serialize()
    found = jax.export.deserialize(written).call(*arguments)
    for left, right in zip(found, read(*arguments), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("width", [0, 1])
def test_bleu_of_rows_of_few_words(width):
    shape = (2, width)
    index, key = np.zeros(shape, np.int32), np.ones(shape, np.uint32)
    words = rl.Words(index, np.full(2, width, np.int32), key)
    references = rl.recitation_tables(["liver"])
    np.testing.assert_array_equal(rl.bleu(words, references), [width, width])
    np.testing.assert_array_equal(rl.count_different(words), [width, width])


@pytest.mark.parametrize("sizes", [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_no_prompts_no_completions_no_tokens(sizes):
    prompts, group, length = sizes
    tokens, mask = empty_texts(*sizes)
    prefilled = first_prompts(prompts)
    for chunk in (None, 2):
        scores = qwen25vl.completion_logps(
            CONFIG, PARAMS, prefilled, tokens, mask, chunk=chunk
        )
        assert [x.shape for x in scores] == [sizes, sizes]
    rollout = medjax.sample(
        CONFIG,
        PARAMS,
        prefilled,
        np.arange(prompts, dtype=np.int32),
        KEY,
        group=group,
        decoding=policy.DECODING._replace(max_tokens=length),
    )
    assert {x.shape for x in rollout} == {sizes}


def test_no_contexts():
    prompt = jax.tree.map(lambda x: x[:0], policy.PROMPT)
    features = qwen25vl.encode_images(CONFIG, PARAMS, prompt.images)
    assert features.shape == (0, 8, CONFIG.width)
    prefilled = qwen25vl.prefill(CONFIG, PARAMS, prompt, features)
    assert prefilled.last.shape == (0, CONFIG.width)


def test_one_token_is_scored_from_the_prompt_alone():
    tokens, mask = policy.TOKENS[..., :1], policy.MASK[..., :1]
    logp, entropy = qwen25vl.completion_logps(
        CONFIG, PARAMS, policy.PREFILL, tokens, mask
    )
    hidden = np.asarray(policy.PREFILL.last, np.float64)
    scores = hidden @ np.asarray(PARAMS["text"]["embed"]["embedding"], np.float64).T
    scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
    expected = np.take_along_axis(scores, tokens[..., 0], axis=1)[..., None]
    # float32 through one product of width 8
    np.testing.assert_allclose(logp, expected, rtol=1e-5)
    expected = -(np.exp(scores) * scores).sum(-1)[:, None, None]
    np.testing.assert_allclose(
        entropy, np.broadcast_to(expected, entropy.shape), rtol=1e-5
    )


def test_what_stands_behind_a_completion_is_not_read():
    score = functools.partial(qwen25vl.completion_logps, CONFIG, PARAMS, policy.PREFILL)
    found, _ = score(np.where(policy.MASK, policy.TOKENS, -100), policy.MASK)
    expected, _ = score(policy.TOKENS, policy.MASK)
    np.testing.assert_array_equal(found[policy.MASK], expected[policy.MASK])
    assert np.isfinite(found).all()


def sampled(params=PARAMS, group=1, **options):
    options = {"max_tokens": 2, "temperature": 1.0} | options
    decoding = medjax.Decoding(medjax.Ends((3,), 0), **options)
    return medjax.sample(
        CONFIG,
        params,
        policy.PREFILL,
        policy.IDS,
        KEY,
        group=group,
        decoding=decoding,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rl.build_tables([]), "build_tables: token_bytes: .* found none"),
        (lambda: rl.build_tables(["a"]), "token_bytes: .* found a str: 'a'"),
        (
            lambda: rl.restrict_logits(jnp.zeros((2, 0), jnp.float32)),
            "restrict_logits: logits: expected V >= 1",
        ),
        (lambda: draw(2, max_tokens=-1), "sample_loop: max_tokens"),
        (
            lambda: rl.rollout_keys(KEY, jnp.zeros(2, jnp.int32), -1),
            "rollout_keys: group: expected an integer of at least 0",
        ),
        (
            lambda: qwen25vl.completion_logps(
                CONFIG, PARAMS, policy.PREFILL, policy.TOKENS, policy.MASK, chunk=0
            ),
            "completion_logps: chunk: expected an integer of at least 1",
        ),
        (
            lambda: qwen25vl.extend(
                CONFIG,
                PARAMS,
                np.zeros((3, 2, CONFIG.width), np.float32),
                np.ones((3, 2), bool),
                np.zeros((3, 2, 3), np.int32),
                (first_prompts(2).context,),
            ),
            "extend: past: expected caches whose rows divide the 3 rows",
        ),
        (
            lambda: qwen25vl.encode_images(
                CONFIG, PARAMS, jax.tree.map(lambda x: x[:, :, :17], policy.IMAGES)
            ),
            "encode_images: images: expected whole windows of 16 patches, found 17",
        ),
        (
            lambda: rl.recitation_score("a", ["a"], max_words=0),
            "recitation_score: max_words: expected an integer of at least 1, found 0",
        ),
        (lambda: draw(2, max_tokens=2.5), "sample_loop: max_tokens: .* found 2.5"),
        (lambda: draw(2, top_k=2.0), "sample_loop: top_k: .* found 2.0"),
        (lambda: draw(2, temperature=np.inf), "sample_loop: temperature must be fin"),
        (
            lambda: rl.rollout_keys(KEY, jnp.zeros(2, jnp.int32), 2.0),
            "rollout_keys: group: expected an integer of at least 0, found 2.0",
        ),
        (lambda: sampled(group=-1), "sample: group: .* at least 0, found -1"),
        (
            lambda: sampled(max_tokens=-1),
            "sample: decoding.max_tokens: expected an integer of at least 0",
        ),
        (
            lambda: rl.smart_resize(
                10, 10.5, factor=28, min_pixels=1, max_pixels=10**6
            ),
            "smart_resize: width: expected an integer of at least 1, found 10.5",
        ),
        (
            lambda: rl.count_different(
                texts.WORDS._replace(count=texts.WORDS.count[:2])
            ),
            "count_different: words.index: expected int .* with N = 2",
        ),
        (
            lambda: rl.label_set_tables(texts.FORMS),
            "label_set_tables: forms: expected those of label_set_forms",
        ),
        (
            lambda: rl.read_label_set("liver", texts.FORMS),
            "read_label_set: forms: expected those of label_set_forms",
        ),
        (
            lambda: rl.parse_label_set_text("liver", texts.FORMS),
            "parse_label_set_text: forms: expected those of label_set_forms",
        ),
        (lambda: rl.option_letters(2.0), "2.0 options: letters serve 1 to 26"),
        (lambda: rl.grade_table("power", 2.5), "grade_table: classes: .* found 2.5"),
        (
            lambda: rl.recitation_score("a", "abc"),
            "recitation_score: references: expected a list of texts; found 'abc'",
        ),
        (
            lambda: rl.sentence_bleu("ab", ["ab"]),
            "sentence_bleu: expected lists of words, found a text",
        ),
        (
            lambda: rl.kl_estimate(
                np.zeros((1, 2), np.float32),
                np.zeros((1, 2), np.float32),
                kl="k3",
                clamp=(1.0, 2.0, 3.0),
            ),
            "kl_estimate: clamp: expected two bounds above 0, or None; found",
        ),
        (
            lambda: rl.pick_prompts(
                rl.init_visits(3),
                np.arange(3, dtype=np.int32),
                jax.random.PRNGKey(0),
                size=1,
                visits=1,
                keep=0.5,
            ),
            "pick_prompts: key: expected one typed PRNG key",
        ),
        (
            lambda: rl.progress_threshold(np.int32(1), total_steps=np.inf),
            "progress_threshold: total_steps: expected",
        ),
    ],
)
def test_other_sizes_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (lambda x: draw(2, temperature=x), 0.5),
        (lambda x: draw(2, top_k=x), 2),
        (lambda x: draw(2, top_p=x), 0.5),
        (lambda x: draw(2, max_tokens=x), 2),
        (lambda x: rl.rollout_keys(KEY, jnp.zeros(2, jnp.int32), x), 2),
        (
            lambda x: rl.read_words(
                texts.IDS,
                texts.MASK,
                texts.THINK,
                texts.TABLES,
                texts.REFERENCES,
                max_words=x,
            ),
            2,
        ),
    ],
)
def test_a_tracer_where_a_number_is_static_is_refused_by_name(function, value):
    wanted = "expected (a Python number|an integer).*static_argnames"
    with pytest.raises(ValueError, match=wanted):
        jax.jit(function)(value)


@pytest.mark.parametrize(
    ("function", "flag"),
    [
        (lambda x: rl.label_tables(texts.FORMS, think=x), "label_tables: think"),
        (lambda x: rl.build_tables(texts.TOKENS, think=x), "build_tables: think"),
        (lambda x: rl.box_set_tables(think=x), "box_set_tables: think"),
        (lambda x: rl.parse_text("", think=x), "parse_text: think"),
        (lambda x: rl.parse_box_set_text("", think=x), "parse_box_set_text: think"),
        (
            lambda x: rl.parse_label_text("", texts.FORMS, think=x),
            "parse_label_text: think",
        ),
        (
            lambda x: rl.recitation_reward(
                texts.IDS,
                texts.MASK,
                texts.THINK,
                texts.TABLES,
                texts.REFERENCES,
                target=texts.TARGET,
                leak_label=x,
            ),
            "recitation_reward: leak_label",
        ),
        (
            lambda x: qwen25vl.save_qwen25vl(
                "there", CONFIG, PARAMS, token_ids=None, overwrite=x
            ),
            "save_qwen25vl: overwrite",
        ),
    ],
)
def test_a_word_for_a_flag_is_refused(function, flag):
    with pytest.raises(ValueError, match=f"{flag}: expected True or False; found 'no'"):
        function("no")


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_rows_without_a_distribution_are_nan_and_excluded_tokens_finite(
    temperature, dtype
):
    inf, nan = np.inf, np.nan
    rows = [[nan, 1, 2], [inf, 1, 2], [-inf, -inf, -inf], [-inf, 1, 2], [0, 1, 2]]
    found = rl.restrict_logits(
        jnp.array(rows, dtype), temperature=temperature, top_k=2
    ).astype(jnp.float32)
    assert np.isnan(found[:3]).all()
    assert np.isfinite(found[3:]).all()
    assert (np.asarray(found[3:, 0]) < -60000).all()


def test_a_nan_shows_in_the_log_probabilities_of_a_greedy_sample():
    broken = jax.tree.map(lambda x: x * np.float32("nan"), PARAMS)
    found = sampled(params=broken, temperature=0.0)
    assert np.isnan(np.asarray(found.logp)[np.asarray(found.mask)]).all()


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(qwen25vl.init_params, CONFIG),
        lambda key: rl.rollout_keys(key, jnp.zeros(2, jnp.int32), 2),
        lambda key: medjax.sample(
            CONFIG,
            PARAMS,
            policy.PREFILL,
            policy.IDS,
            key,
            group=2,
            decoding=policy.DECODING,
        ),
    ],
)
def test_old_keys_and_batches_of_keys_are_refused_by_name(function):
    with pytest.raises(ValueError, match=r"key: .*jax\.random\.key\(seed\)"):
        function(jax.random.PRNGKey(0))
    with pytest.raises(ValueError, match=r"key: .*jax\.vmap"):
        function(jax.random.split(KEY, 2))


def test_one_question_about_an_image_on_each_device():
    """In shard_map: the prompt is the same everywhere, so no part of it varies."""
    one = jax.tree.map(lambda x: x[:1], policy.PROMPT)
    mesh = jax.make_mesh((8,), ("d",))
    step = jax.shard_map(
        lambda features: qwen25vl.prefill(CONFIG, PARAMS, one, features).last,
        mesh=mesh,
        in_specs=P("d"),
        out_specs=P("d"),
    )
    same = jax.tree.map(lambda x: np.repeat(x, policy.ROWS, axis=0), one)
    expected = qwen25vl.prefill(CONFIG, PARAMS, same, policy.FEATURES).last
    features = jax.device_put(policy.FEATURES, jax.NamedSharding(mesh, P("d")))
    np.testing.assert_allclose(jax.jit(step)(features), expected, rtol=1e-5, atol=1e-6)

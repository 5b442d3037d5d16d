"""Greedy answers to questions about classes, and the self-test of the ground truth."""

from functools import partial

import jax
import numpy as np
import pytest

from medjax.rl.text.label_text import parse_label_text
from medjax.rl.text.recitation_text import recitation_score
from medjax.systems.policy.classes import (
    Reading,
    answer_logps,
    check_answers,
    make_evaluate,
)
from medjax.types import TrainState
from tests.oracles.plain_policy import plain_log_probs
from tests.tiny import PAD, STOP, decoding, tiny_config, tiny_model
from tests.tiny_labels import (
    CLASSES,
    FORMS,
    KNOWLEDGE,
    LABELS,
    REFERENCES,
    tiny_label_tables,
    tiny_labels,
    token_texts,
    written_answers,
)

TABLES = tiny_label_tables()


def check(batch, min_words=1):
    names = [f"row {n}" for n in range(len(batch.valid))]
    how = {"min_words": min_words, "names": names, "classes": CLASSES}
    check_answers(batch, TABLES, LABELS, **how)


def test_evaluation_reads_what_the_policy_wrote(params):
    reading = Reading(TABLES, LABELS, REFERENCES, **written_answers(), max_words=24)
    evaluate = make_evaluate(tiny_model(), reading, decoding=decoding())
    batch = tiny_labels(contexts=8)
    state = TrainState(params, (), np.int32(0))
    found, metrics = jax.device_get(jax.jit(evaluate)(state, batch, jax.random.key(0)))
    texts = token_texts()
    for n, (tokens, mask) in enumerate(zip(found.tokens, found.mask, strict=True)):
        text = "".join(texts[t] for t in tokens[mask])
        parsed = parse_label_text(text, FORMS)
        assert found.label[n] == parsed.label
        assert metrics["right"][n] == (parsed.label == batch.label[n])
        assert metrics["parsed"][n] == parsed.parsed
        assert metrics["length"][n] == mask.sum()
        start, end = parsed.think
        think = text.encode()[start:end].decode()
        score = recitation_score(think, KNOWLEDGE)
        assert metrics["recitation"][n] == pytest.approx(score, abs=1e-6)


def test_answers_are_weighed_as_without_sharing(params):
    batch, written = tiny_labels(contexts=2), written_answers()
    answers, mask = written["answers"], written["answers_mask"]

    def weigh(params, prompt):
        model = tiny_model()
        prefilled = model.prefill(params, prompt)
        return answer_logps(model, params, prefilled, answers, mask, rows=4)

    tokens = np.broadcast_to(answers, (4, *answers.shape))
    counted = np.broadcast_to(mask, tokens.shape)
    plain = jax.jit(partial(plain_log_probs, tiny_config()))
    scores = plain(params, batch.prompt, tokens, counted)
    each = np.take_along_axis(np.asarray(scores), tokens[..., None], axis=-1)[..., 0]
    expected = np.where(counted, each, 0).sum(axis=-1)
    found = jax.jit(weigh)(params, batch.prompt)
    # float32 sums of a few log-probabilities of about -4
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_ground_truth_earns_its_reward():
    check(tiny_labels(contexts=2))


def test_a_wrong_or_silent_ground_truth_is_named():
    batch = tiny_labels(contexts=2)
    other = batch._replace(label=(batch.label + 1) % 4)
    with pytest.raises(ValueError, match=r"(?s)4 of 4 .*row 0: '\w+', read '\w+'"):
        check(other)
    silent = np.where(batch.answer == PAD, PAD, STOP)
    with pytest.raises(ValueError, match=r"(?s)row 0: .*'no label' after 0 words"):
        check(batch._replace(answer=silent))
    with pytest.raises(ValueError, match="have 9 words"):
        check(batch, min_words=9)
    check(other._replace(valid=np.zeros(4, bool)))

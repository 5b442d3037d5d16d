"""What grounding stages share: the setup, the identity, the self-test, evaluation."""

import pytest

from medjax.data.prompting.chat import special_tokens
from medjax.recipes.boxes.task import self_test
from medjax.recipes.policy.stages import training_batches
from tests.recipes.smoke import make_setup, make_training


@pytest.fixture(scope="module")
def setup():
    return make_setup()


OPTIONS = make_training().warm_start[0]


def test_setup_joins_data_policy_and_prompt(setup):
    policy, encoding = setup.policy.identity, setup.encoding
    assert (policy["vocab"], policy["width"]) == (400, 16)
    assert setup.parts.identity["source"] == "synthetic"
    assert setup.policy.tables.vocab_bytes.shape[0] >= 400
    assert encoding.style.system is None and not encoding.ramps
    sizes = encoding.buckets
    # 56 x 56 pixels: 8 x 8 patches, one window, 16 image tokens
    assert sizes.windows == (1,)
    assert sizes.context[0] >= 16 and setup.answer_length == sizes.answer[0]
    assert all(part[0] % 4 == 0 for part in sizes[1:])


def test_self_test_passes_and_names_boxes_that_whole_pixels_miss(setup):
    self_test(setup, tau=0.8)
    views = setup.parts.test

    def small(index, rng):
        view = views.view(index, rng)
        return view._replace(boxes=view.boxes / 4)

    parts = setup.parts._replace(test=views._replace(view=small))
    with pytest.raises(ValueError, match=r"(?s)self-test: .*synthetic test 0.*pixels"):
        self_test(setup._replace(parts=parts), tau=0.8)


def test_prompts_end_where_the_answer_begins(setup):
    batch = next(
        iter(training_batches(setup, setup.task.train_batches, OPTIONS, seed=0))
    )
    tokenizer = setup.policy.tokenizer
    row = batch.prompt.question
    text = tokenizer.decode(row.tokens[0][row.mask[0]])
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    answer = batch.answer[0][batch.answer_mask[0]]
    assert answer[-1] == special_tokens(tokenizer).stop
    assert tokenizer.decode(answer).startswith("<think>")

"""Batches of prompts: what training would make of the pictures, faults left out."""

import numpy as np
import pytest
from PIL import Image

from medjax.data.asking.batches import ask_batches, encode_pictures
from medjax.data.asking.pictures import find_pictures
from medjax.data.asking.questions import read_questions
from medjax.data.lists.reading import PLAIN
from medjax.data.prompting.layout import resize_image
from medjax.data.prompting.prompts import build_prompt
from medjax.recipes.policy.predictor import plan_encoding
from tests.recipes.policy.hub import STYLE, TEXTS, make

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def policy():
    return make()


@pytest.fixture
def asked(tmp_path):
    for n, size in enumerate([(30, 40), (28, 28), (60, 50)]):
        grey = RNG.integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{n}.png")
    (tmp_path / "ask.txt").write_text("\n".join((*TEXTS, "And that?")))
    found, _ = find_pictures(
        str(tmp_path),
        read_questions(str(tmp_path / "ask.txt")),
        plane="axial",
        reading=PLAIN,
        identify=False,
    )
    return found


def plan(policy, asked, **more):
    texts = [query for one in asked for query in one.queries]
    sizes = [one.size for one in asked]
    return plan_encoding(policy, STYLE, texts=texts, sizes=sizes, **more)


def test_rows_are_those_of_the_prompts_of_training(policy, asked):
    encoding = plan(policy, asked, questions=2)
    faults = []
    batches = list(ask_batches(asked, encoding, batch=4, fail=faults.append))
    assert not faults and [len(records) for _, records in batches] == [6, 3]
    shapes = {str([x.shape for x in batch.prompt.context]) for batch, _ in batches}
    assert len(shapes) == 1
    batch, records = batches[0]
    assert batch.valid.tolist() == [True, True, True, False] * 2
    shown = [resize_image(r.image, policy.geometry) for r in records[::3]]
    one = build_prompt(
        policy.tokenizer,
        [[x] for x in shown for _ in range(2)],
        [TEXTS, ("And that?",) * 2] * 2,
        origins=["x"] * 4,
        style=STYLE,
        geometry=policy.geometry,
        buckets=encoding.buckets,
        slots=1,
    )
    np.testing.assert_array_equal(batch.prompt.question.tokens, one.question.tokens)
    np.testing.assert_array_equal(batch.prompt.images.patches, one.images.patches)


def test_sample_ids_do_not_depend_on_what_else_is_asked(policy, asked):
    encoding = plan(policy, asked)

    def ids(some):
        found = ask_batches(some, encoding, batch=2, fail=print)
        return {
            (r.asked.name, r.query): int(i)
            for batch, records in found
            for r, i in zip(records, batch.sample_id[batch.valid], strict=True)
        }

    everything = ids(asked)
    assert len(set(everything.values())) == 9
    assert ids(asked[1:2]).items() <= everything.items()


def test_a_picture_that_breaks_is_told_and_left_out(policy, asked):
    asked[1].image.path.write_bytes(b"\x89PNG\r\n\x1a\n")
    faults = []
    encoding = plan(policy, asked)
    found = list(ask_batches(asked, encoding, batch=16, fail=faults.append))
    assert {r.asked.name for _, records in found for r in records} == {"0.png", "2.png"}
    assert [fault.image for fault in faults] == ["1.png"]


def test_arrays_in_python_are_encoded_alike(policy, asked):
    encoding = plan(policy, asked)
    ((batch, records),) = ask_batches(asked[:2], encoding, batch=6, fail=print)
    images = [record.image for record in records]
    questions = [[record.query] for record in records]
    here = encode_pictures(images, questions, encoding, origins=["x"] * 6)
    np.testing.assert_array_equal(
        here.prompt.images.patches, batch.prompt.images.patches
    )
    assert here.valid.all() and here.sample_id.tolist() == list(range(6))

"""A toy atlas, a small tokenizer, and the real packs where they can be had."""

import pytest

from medjax.data.batches import Encoding
from medjax.data.prompting.chat import Style, corpus, longest_answers, sample_answers
from medjax.data.prompting.prompts import plan_buckets
from medjax.data.prompting.tokenizer import ANSWER_TAGS, train_tokenizer
from medjax.data.volumes.atlas import load_atlas
from tests.data.toy_atlas import GEOMETRY, LOOK, make_atlas, mr_views, structure_names

STYLE = Style(system=None, suffix="", answer="object")


@pytest.fixture(scope="session")
def atlas():
    return make_atlas()


@pytest.fixture(scope="session")
def train_views(atlas):
    names = structure_names(atlas)
    return mr_views(
        atlas, split="moved", part="train", structures=names, look=LOOK, seed=0
    )


@pytest.fixture(scope="session")
def test_views(atlas):
    names = structure_names(atlas)
    return mr_views(
        atlas, split="moved", part="test", structures=names, look=LOOK, seed=0
    )


@pytest.fixture(scope="session")
def tokenizer(train_views):
    answers = sample_answers(train_views.names, style=STYLE.answer)
    texts = corpus(train_views.texts, answers, STYLE)
    return train_tokenizer(texts, 500, extra_tokens=ANSWER_TAGS)


@pytest.fixture(scope="session")
def encoding(train_views, tokenizer):
    views = train_views
    buckets = plan_buckets(
        tokenizer,
        views.texts,
        longest_answers(views.names, sizes=views.sizes, style=STYLE.answer),
        views.sizes,
        style=STYLE,
        geometry=GEOMETRY,
        slots=1,
        multiple=8,
    )
    return Encoding(tokenizer, STYLE, GEOMETRY, buckets, questions=3)


@pytest.fixture(scope="session")
def real_atlas():
    """MNI152 x AAL from the user's cache or a package index."""
    try:
        return load_atlas()
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")

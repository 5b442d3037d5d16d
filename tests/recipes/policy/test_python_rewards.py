"""Rewards in Python: what they are given, and what they may not return."""

import traceback

import jax
import numpy as np
import pytest

from medjax.data.batches import Encoding
from medjax.data.boxes.batches import find_records, train_batches
from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.classes.batches import LabelRecord
from medjax.data.lists.columns import REWARD_WORDS, check_columns
from medjax.data.prompting.chat import Style, corpus, longest_answers, sample_answers
from medjax.data.prompting.layout import Geometry
from medjax.data.prompting.prompts import plan_buckets
from medjax.data.prompting.tokenizer import ANSWER_TAGS, train_tokenizer
from medjax.recipes.boxes.task import box_columns
from medjax.recipes.classes.task import label_columns
from medjax.recipes.policy.python_rewards import (
    load_reward,
    load_rewards,
    make_host_rewards,
)
from medjax.recipes.policy.reward_checks import check_weights, try_rewards
from medjax.rl.schedules import piecewise_schedule
from medjax.rl.threshold import init_threshold
from medjax.runtime.errors import RewardError
from medjax.types import Rollout

STYLE = Style(None, "", "object")
GROUP = 2


@pytest.fixture(scope="module")
def views():
    return synthetic_views(count=20, size=(56, 56), part="train", num_phrasings=2)


@pytest.fixture(scope="module")
def encoding(views):
    answers = sample_answers(views.names, style=STYLE.answer)
    tokenizer = train_tokenizer(
        corpus(views.texts, answers, STYLE), 400, extra_tokens=ANSWER_TAGS
    )
    geometry = Geometry(7, 2, 2, 56, 56 * 56, 112 * 112)
    buckets = plan_buckets(
        tokenizer,
        views.texts,
        longest_answers(views.names, sizes=views.sizes, style=STYLE.answer),
        [(56, 56)],
        style=STYLE,
        geometry=geometry,
        slots=1,
        multiple=4,
    )
    return Encoding(tokenizer, STYLE, geometry, buckets, 3)


@pytest.fixture(scope="module")
def batch(views, encoding):
    source = train_batches(
        views,
        encoding,
        batch=4,
        seed=5,
        loose=None,
        process_index=0,
        process_count=1,
    )
    iterator = iter(source)
    next(iterator)
    return next(iterator)


def rollout_of(batch):
    """The right answer and an empty one, for every prompt."""
    right = np.stack([batch.answer, np.zeros_like(batch.answer)], axis=1)
    mask = np.stack([batch.answer_mask, np.zeros_like(batch.answer_mask)], axis=1)
    zeros = np.zeros(mask.shape, np.float32)
    return Rollout(right, mask, zeros, zeros)


def test_records_are_those_of_the_batch(views, encoding, batch):
    records = find_records(views, encoding, seed=5)(batch.sample_id)
    np.testing.assert_allclose([r.box for r in records], batch.boxes)
    tokens = batch.prompt.question
    for record, row, mask in zip(records, tokens.tokens, tokens.mask, strict=True):
        assert record.query in encoding.tokenizer.decode(row[mask])


@pytest.fixture
def make(views, encoding, tmp_path, batch):
    """A function of the batch from the text of one or several rewards."""

    def load(text, *names, columns=None):
        file = tmp_path / "mine.py"
        file.write_text(text)
        find = find_records(views, encoding, seed=5)

        def find_more(ids):
            return [r._replace(columns=columns or {}) for r in find(ids)]

        places = {name: f"{file}:{name}" for name in names}
        return load_rewards(places, encoding.tokenizer, find_more, box_columns)

    return load


def score(rewards, batch):
    threshold = jax.device_get(init_threshold(piecewise_schedule()))
    return make_host_rewards(rewards)(batch, rollout_of(batch), np.int32(7), threshold)


SAYS = """
seen = {}

def says(completions, structure, **columns):
    seen.update(columns)
    return [
        None if not text else float(name in text)
        for text, name in zip(completions, structure, strict=True)
    ]
"""


def test_functions_get_texts_and_columns(make, batch):
    rewards = make(SAYS, "says", columns={"side": "left"})
    found = score(rewards, batch)
    np.testing.assert_array_equal(found["says"].values[:, 0], 1)
    assert found["says"].scored[:, 0].all() and not found["says"].scored[:, 1].any()
    assert np.isfinite(found["says"].values).all()
    seen = rewards.functions["says"].__globals__["seen"]
    assert seen["step"] == 7
    assert seen["tau"] == pytest.approx(0.3)
    assert set(seen) == {"query", "target", "slice_id", "plane", "step", "tau", "side"}
    assert len(seen["query"]) == len(batch.boxes) * GROUP
    assert seen["side"] == ["left"] * len(seen["query"])


def label_record():
    return LabelRecord(
        sample_id=3,
        image=np.zeros((2, 2, 3), np.uint8),
        query="How large?",
        question="size",
        labels=(2,),
        name="large",
        slice_id="axial 3",
        group="axial 3",
        plane="axial",
        columns={},
    )


def test_classes_have_columns_of_their_own():
    found = label_columns([label_record()] * 2)
    assert found["target"] == ["large"] * 2 and found["label"] == [2] * 2
    assert {len(column) for column in found.values()} == {2}


def test_every_word_of_the_library_is_kept_from_users(views, encoding):
    """The list is that of the code: no word more, none less."""
    boxes = box_columns(find_records(views, encoding, seed=5)([0]))
    labels = label_columns([label_record()])
    own = {"completions", "step", "tau"}
    assert set(REWARD_WORDS) == own | set(boxes) | set(labels)


@pytest.mark.parametrize("word", REWARD_WORDS)
def test_a_users_column_may_not_replace_the_librarys(make, batch, word):
    rewards = make(SAYS, "says", columns={word: 1})
    with pytest.raises(RewardError, match=f"column '{word}' of .*rename it"):
        score(rewards, batch)
    with pytest.raises(ValueError, match=rf"a\.csv, line 3: column '{word}'.*rename"):
        check_columns(["side", word], "a.csv, line 3")


def test_a_function_may_change_its_lists(make, batch):
    text = (
        SAYS
        + """
def spoils(completions, structure, **_):
    count = len(completions)
    completions.clear(), structure.clear()
    return [0] * count
"""
    )
    found = score(make(text, "spoils", "says"), batch)
    np.testing.assert_array_equal(found["says"].values[:, 0], 1)


NOBODY = "a number a completion, None where it cannot score"


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("[1.0]", "gave 1 numbers for 24 completions; expected"),
        ("[0.0] * 25", "gave 25 numbers for 24"),
        (
            "None",
            f"returned None; expected a list with {NOBODY}: is a `return` missing",
        ),
        ("0.5", r"returned '0.5' \(float\); expected a list"),
        ("'x' * 24", r"returned 'x+' \(str\)"),
        ("dict.fromkeys(range(24))", r"\(dict\); expected a list"),
        ("set(range(24))", r"\(set\); expected a list"),
        ("np.zeros((24, 1))", r"shape \(24, 1\); .*of shape \(24,\)"),
        ("np.array(1.0)", r"shape \(\)"),
        ("['1.0'] * 24", r"gave '1.0' \(str\) for .*answer to .*sample \d+"),
        ("[1j] * 24", r"gave '1j' \(complex\)"),
        ("[[1.0]] * 24", r"gave '\[1.0\]' \(list\)"),
        ("[0] * 23 + [np.ones(1)]", r"gave '\[1.\]' \(ndarray\)"),
        ("[np.ma.masked] * 24", "gave 'a masked value'"),
        (
            "[float('nan')] * 24",
            r"gave nan for .*\(24 such of 24.*None where it cannot",
        ),
        ("[0] * 23 + [np.inf]", r"gave inf for .*\(1 such of 24.*up to 1e\+18"),
        ("[-np.inf] + [0] * 23", "gave -inf for"),
        ("[1e39] * 24", r"gave 1e\+39 for"),
        ("[10 ** 400] * 24", "gave inf for"),
    ],
)
def test_what_is_no_number_is_named(make, batch, result, message):
    text = f"import numpy as np\ndef bad(completions, **_):\n    return {result}\n"
    with pytest.raises(RewardError, match=f"'bad' .*{message}"):
        score(make(text, "bad"), batch)


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ("[True] * 24", 1.0),
        ("[np.bool_(True)] * 24", 1.0),
        ("np.full(24, 2, np.int8)", 2.0),
        ("tuple(np.full(24, 0.5, np.float16))", 0.5),
        ("[jnp.float32(0.25)] * 24", 0.25),
        ("jnp.full(24, 3, jnp.float32)", 3.0),
        ("map(float, [4] * 24)", 4.0),
        ("(x for x in [5] * 24)", 5.0),
        ("[Fraction(1, 2)] * 24", 0.5),
        ("[-1e18] * 24", -1e18),
    ],
)
def test_numbers_of_any_kind_are_taken(make, batch, result, value):
    head = (
        "import numpy as np\nimport jax.numpy as jnp\nfrom fractions import Fraction\n"
    )
    text = f"{head}def fair(completions, **_):\n    return {result}\n"
    found = score(make(text, "fair"), batch)["fair"]
    np.testing.assert_array_equal(found.values, np.full((12, 2), value, np.float32))
    assert found.scored.all()


def test_none_is_no_number_anywhere(make, batch):
    text = "def none(completions, **_):\n    return [None] * len(completions)\n"
    found = score(make(text, "none"), batch)["none"]
    assert not found.scored.any() and not found.values.any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(completions):", r"unexpected keyword .*called with .*completions, "),
        ("def f(prompts, **_):", "missing a required .*'prompts'"),
        ("def f(*, completions, threshold, **_):", "'threshold'.*step, tau.*columns"),
    ],
)
def test_a_function_that_takes_something_else_is_named(make, batch, text, message):
    rewards = make(f"{text}\n    return 0\n", "f")
    with pytest.raises(RewardError, match=f"'f' does not take .*{message}"):
        score(rewards, batch)


DEEP = """
def helper(text):
    return {}[text]

def f(completions, **_):
    yield from map(helper, completions)

def ends(completions, **_):
    raise SystemExit(0)
"""


def test_a_users_error_keeps_its_traceback_and_gets_the_rewards_name(make, batch):
    with pytest.raises(RewardError, match="'f' failed at step 7: KeyError") as error:
        score(make(DEEP, "f"), batch)
    cause = error.value.__cause__
    assert isinstance(cause, KeyError)
    frames = traceback.extract_tb(cause.__traceback__)
    assert frames[-1].name == "helper" and frames[-1].line == "return {}[text]"
    with pytest.raises(RewardError, match="'ends' failed at step 7: SystemExit"):
        score(make(DEEP, "ends"), batch)


@pytest.mark.parametrize("text", ["import nowhere_at_all", "def f(:", "1 / 0"])
def test_a_file_that_cannot_be_run_is_named(make, text):
    with pytest.raises(RewardError, match=r"mine\.py cannot be run: "):
        make(text, "f")


def test_async_functions_are_refused(make):
    with pytest.raises(RewardError, match="is `async`"):
        make("async def f(completions, **_):\n    return []\n", "f")


TRIED = """
def right(completions, structure, **_):
    return [float(s in x) for x, s in zip(completions, structure)]

def large(completions, **columns):
    return [1000 * x for x in right(completions, **columns)]

def same(completions, **_):
    return [0.5] * len(completions)

def silent(completions, tau, **_):
    assert 0 < tau < 1
    return [None] * len(completions)
"""


def test_a_trial_says_what_is_strange(make, batch):
    numbers, own = {"tau": 0.3}, {"accuracy": 1.0, "format": 1.0}

    def tried(*names, **weights):
        found = own | dict.fromkeys(names, 1.0) | weights
        return try_rewards(make(TRIED, *names), batch, found, numbers)

    assert tried("right") == []
    (line,) = tried("right", "same")
    assert "'same' gives 0.5 to each of 48 answers to 12 training questions" in line
    (line,) = tried("silent")
    assert "'silent' could score none of 48" in line
    (line,) = tried("large")
    assert "'large' differs by 1e+03" in line and "reward_weights.large" in line
    assert tried("large", large=0.001) == []
    assert tried("large", large=0.0) == []


OWN = ("accuracy", "format")


@pytest.mark.parametrize(
    ("weights", "functions", "message"),
    [
        ({}, ("accuracy",), "'accuracy' is a reward of the system's own"),
        ({}, ("std",), "'std' would have the column reward_std"),
        ({}, ("accuracy_tied",), "column reward_accuracy_tied"),
        ({}, ("mine", "mine_std"), "column reward_mine_std"),
        ({}, ("my reward",), "'my reward' is no name"),
        ({}, ("",), "'' is no name"),
        ({"acuracy": 1.0}, (), "no reward acuracy; expected some of accuracy, format"),
        ({"format": float("nan")}, (), "reward_weights.format=nan: expected a finite"),
        ({"format": float("inf")}, (), "reward_weights.format=inf"),
        ({"accuracy": 0.0, "format": 0.0}, (), "all are 0"),
    ],
)
def test_weights_and_names_that_do_not_fit_are_refused(weights, functions, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights, OWN, functions)


def test_a_weight_may_be_0_or_below():
    weights = {"accuracy": 1.0, "format": 0.0, "mine": -0.5}
    assert check_weights(weights, OWN, ("mine", "other")) == weights | {"other": 1.0}


def test_functions_are_loaded_from_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def longer(completions, **_):\n    return [*map(len, completions)]\n"
    )
    assert load_reward(f"{file}:longer")(completions=["abc", ""]) == [3, 0]
    with pytest.raises(ValueError, match="no function 'shorter'"):
        load_reward(f"{file}:shorter")
    with pytest.raises(FileNotFoundError, match=r"FILE\.py:NAME"):
        load_reward("nowhere.py:f")

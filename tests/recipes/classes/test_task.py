"""What stages about classes share: the setup, the rewards, the self-test."""

import jax
import numpy as np
import pytest
from PIL import Image

from medjax.data.classes.sources import load_label_parts
from medjax.data.classes.tasks import check_task
from medjax.data.prompting.chat import special_tokens
from medjax.recipes.classes import task
from medjax.recipes.classes.task import label_setup, label_stage, label_words
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.stages import scoring, supervised_stage, training_batches
from medjax.recipes.vrft_aug import make_label_style
from medjax.rl.label_rewards import fuzzy_grade_reward, grade_table, label_reward
from medjax.rl.text.labels import label_tables, parse_labels
from medjax.systems.policy.classes import Predictions
from tests.recipes.smoke import WHERE
from tests.recipes.smoke_labels import label_options, label_sections

PARSE = jax.jit(parse_labels)


def make(arg="", **changes):
    found = load_label_parts(seed=0, **label_options(arg))
    sections = label_sections(arg, **changes)
    style = make_label_style(sections["prompt"], found)
    _, finish = open_policy(sections["policy"])
    policy = finish(*label_words(found, style), style=style)
    setup = label_setup(
        found,
        policy,
        style,
        room=sections["prompt"]["room"],
        ramps=False,
        probe=sections["data"]["probe"],
        evaluation=sections["evaluation"],
        **WHERE,
    )
    return found, setup, sections["train"]["grpo"]


def with_reasons(found, setup, reasons):
    """The same run with other reasonings in its supervised answers."""
    other = found._replace(wording=found.wording._replace(reasons=reasons))
    where = {"room": 512, "ramps": False, "probe": {}, **WHERE}
    style, evaluation = setup.encoding.style, setup.evaluation
    return other, label_setup(
        other, setup.policy, style, evaluation=evaluation, **where
    )


@pytest.fixture(scope="module")
def graded():
    return make()


def test_a_question_tells_the_options_and_what_is_known(graded):
    found, setup, _ = graded
    batch = next(iter(training_batches(setup, label_sections()["warm_start"], seed=0)))
    tokenizer, row = setup.policy.tokenizer, batch.prompt.question
    text = tokenizer.decode(row.tokens[0][row.mask[0]])
    assert "Grades: 0 tiny, 1 small" in text
    for known in found.wording.knowledge:
        assert known in text
    answer = batch.answer[0][batch.answer_mask[0]]
    assert answer[-1] == special_tokens(tokenizer).stop
    written = tokenizer.decode(answer[:-1])
    assert written.startswith("<think>") and written.endswith("</answer>")


def test_noisy_answers_leave_the_labels_true(graded):
    _, setup, _ = graded
    options = label_sections()["warm_start"]
    noisy, clean = (
        next(iter(training_batches(setup, options | {"noise": noise}, seed=0)))
        for noise in (1.0, 0.0)
    )
    np.testing.assert_array_equal(noisy.label, clean.label)
    assert (noisy.answer != clean.answer).any(axis=1).all()
    setup.kind.check(setup)


def test_baselines_know_the_training_part_as_it_is(tmp_path):
    """Six pictures of one class and two of the other, balanced for training."""
    lines = ["image,label,split"]
    for n in range(12):
        pixels = np.full((56, 56, 3), 20 * n, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        name = "solid" if n % 4 else "cyst"
        lines.append(f"{n}.png,{name},{'train' if n < 8 else 'test'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    found, setup, _ = make(f"data={tmp_path},prompt=off,recite=none")
    assert setup.parts.train.count == 12
    stage = supervised_stage("sft", setup, label_sections()["warm_start"], before={})
    (batch, records), *_ = stage.eval_batches()
    tokens = np.full((len(batch.valid), 2), 0, np.int32)
    nothing = Predictions(
        np.full(len(tokens), -1, np.int32),
        np.zeros((len(tokens), 2), np.float32),
        tokens,
        np.zeros(tokens.shape, bool),
    )
    zero = np.zeros(len(tokens))
    names = ("right", "parsed", "well_formed", "length", "recitation", "think_words")
    values = dict.fromkeys(names, zero) | {"valid": batch.valid}
    stage.score([(nothing, values, records)], tmp_path / "sft" / "eval" / "1")
    text = (tmp_path / "sft" / "eval" / "1" / "tables.txt").read_text()
    assert "largest by smallest in train: 3.0" in text
    (majority,) = (line for line in text.splitlines() if line.startswith("majority"))
    assert " 0.750 " in majority  # 3 of the 4 test pictures are solid


def test_classes_are_weighed_by_their_label_alone(monkeypatch):
    """The reasonings of supervised answers differ, and would weigh more than labels."""
    seen = {}
    monkeypatch.setattr(
        task, "make_evaluate", lambda *_, **options: seen.update(options)
    )
    _, setup, _ = make()
    supervised_stage("sft", setup, label_sections()["warm_start"], before={})
    texts = [
        setup.policy.tokenizer.decode(row[mask][:-1])
        for row, mask in zip(seen["answers"], seen["answers_mask"], strict=True)
    ]
    assert texts == [f"<think></think><answer>{n}</answer>" for n in range(5)]


def test_evaluation_asks_every_question_once(graded):
    _, setup, _ = graded
    fields = scoring(setup, "grpo", before={})
    records = [r for _, some in fields["eval_batches"]() for r in some]
    assert len({r.sample_id for r in records}) == setup.evaluation["limit"] == 16


def test_the_stages_systems_have_the_same_parameters(graded):
    found, setup, options = graded
    first = supervised_stage(
        "warm_start", setup, label_sections()["warm_start"], before={}
    )
    second = label_stage("grpo", setup, options, found, before={})
    assert first.system.axes.params == second.system.axes.params
    assert second.identity["options"]["grade_rule"] == "sixteenth"
    assert second.identity["data"]["descriptions"]
    first.check()
    second.check()


def test_a_python_reward_splits_the_step(graded, tmp_path):
    found, setup, options = graded
    file = tmp_path / "mine.py"
    file.write_text("def short(completions, **_):\n    return [1] * len(completions)\n")
    mine = {"python_rewards": {"short": f"{file}:short"}}
    stage = label_stage("grpo", setup, options | mine, found, before={})
    assert stage.system.prepare is not None
    with pytest.raises(FileNotFoundError, match="gone.py"):
        mine = {"python_rewards": {"short": "gone.py:short"}}
        label_stage("grpo", setup, options | mine, found, before={})


def test_grade_rules_fit_the_task(graded):
    found, setup, options = graded

    def stage(**changes):
        return label_stage("grpo", setup, options | changes, found, before={})

    stage(grade_table=(1, 0.5, 0.1))
    with pytest.raises(ValueError, match="'half'.*sixteenth"):
        stage(grade_rule="half")
    with pytest.raises(ValueError, match="do not rise"):
        stage(grade_table=(1, 0.1, 0.5))
    with pytest.raises(ValueError, match="1 to 5"):
        stage(grade_table=(1, 0.5, 0.4, 0.3, 0.2, 0.1))
    with pytest.raises(ValueError, match="max_tokens=3 is too short"):
        stage(max_tokens=3)


def test_classes_without_an_order_have_no_near_grades():
    found, setup, options = make("task=shapes")
    label_stage("grpo", setup, options, found, before={})
    with pytest.raises(ValueError, match=r"shapes: its classes are not .*grade=exact"):
        label_stage("grpo", setup, options | {"grade": "fuzzy"}, found, before={})


def test_knowledge_that_does_not_fit_is_named(graded):
    with pytest.raises(ValueError, match=r"of them descriptions .*room for 40; short"):
        make(prompt__room=40)


def test_a_ground_truth_without_reasoning_is_found(graded):
    found, setup, options = graded
    silent, bare = with_reasons(found, setup, ("",) * 5)
    stage = label_stage("grpo", bare, options, silent, before={})
    setup.kind.check(setup)
    with pytest.raises(ValueError, match=r"(?s)self-test: .*after 0 words"):
        stage.check()


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("1", 1),
        (" small ", 1),
        ("1 or 2", -1),
        ("12", -1),
        ("klein", -1),
        ("小", -1),
        ("1.0", -1),
        ("7", -1),
        ("", -1),
    ],
)
def test_what_is_no_grade_earns_nothing(graded, answer, label):
    """Through the run's own tokenizer and tables, as its completions are read."""
    found, setup, _ = graded
    forms = check_task(found.wording.task, setup.encoding.style.answer)
    text = f"<think>small</think><answer>{answer}</answer>"
    tokens = np.full((1, 40), special_tokens(setup.policy.tokenizer).pad, np.int32)
    ids = setup.policy.tokenizer.encode(text, add_special_tokens=False)
    tokens[0, : len(ids)] = ids
    mask = np.arange(40)[None] < len(ids)
    read = PARSE(tokens, mask, setup.tables, label_tables(forms))
    assert int(read.label[0]) == label
    target = np.ones(1, np.int32)
    assert float(label_reward(read.label, target)[0]) == (label == 1)
    near = fuzzy_grade_reward(read.label, target, grade_table("gaussian", 5))
    assert float(near[0]) == (label == 1)


def test_a_class_that_the_first_pictures_do_not_show_is_checked_too(graded):
    """A reasoning without words of one class alone, whatever the first pictures are."""
    found, setup, _ = graded
    rows = next(
        iter(setup.kind.eval_batches(setup.parts, setup.encoding, batch=16, seed=0))
    )
    unseen = next(n for n in range(5) if n not in rows[0].label[:1])
    reasons = list(found.wording.reasons)
    reasons[unseen] = "."
    _, bare = with_reasons(found, setup, tuple(reasons))
    name = found.wording.task.classes[unseen]
    with pytest.raises(ValueError, match=rf"(?s)self-test: .*{name}'.*after 0 words"):
        bare.kind.check(bare)

"""What stages about classes share: the setup, the rewards, the self-test."""

from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

from medjax.data.classes.tasks import check_task
from medjax.data.prompting.chat import special_tokens
from medjax.recipes.classes import task
from medjax.recipes.classes.data import LabelData, LabelPrompt, label_style, load_labels
from medjax.recipes.classes.score import Probe
from medjax.recipes.classes.task import (
    LabelFlaws,
    draw_batches,
    label_run,
    label_supervised_stage,
    label_words,
    self_test,
)
from medjax.recipes.policy.evaluating import scoring
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.stages import training_batches
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.sections import read_section
from medjax.recipes.vrft_aug import label_stage, read_training
from medjax.rl.label_rewards import fuzzy_grade_reward, grade_table, label_reward
from medjax.rl.text.labels import label_tables, parse_labels
from medjax.systems.policy.classes import Predictions
from tests.recipes.smoke import WHERE
from tests.recipes.smoke_labels import label_sections

PARSE = jax.jit(parse_labels)


PROBE = Probe(side=8, draws=1, penalty=1e-3)


def make(arg="", **changes):
    sections = label_sections(arg, **changes)
    source = load_labels(read_section(LabelData, "data", sections["data"]), seed=0)
    prompt = read_section(LabelPrompt, "prompt", sections["prompt"])
    style = label_style(prompt, source)
    _, finish = open_policy(sections["policy"])
    run = label_run(
        source,
        finish(*label_words(source, style), style=style),
        style,
        room=prompt.room,
        ramps=False,
        probe=PROBE,
        evaluation=read_section(Evaluation, "evaluation", sections["evaluation"]),
        **WHERE,
    )
    return run, read_training(sections["warm_start"], sections["train"])


def with_reasons(run, reasons):
    """The same run with other reasonings in its supervised answers."""
    wording = run.source.wording._replace(reasons=reasons)
    style, evaluation = run.setup.encoding.style, run.setup.evaluation
    return label_run(
        run.source._replace(wording=wording),
        run.setup.policy,
        style,
        room=512,
        ramps=False,
        probe=PROBE,
        evaluation=evaluation,
        **WHERE,
    )


def draw(run, training, noise=0.0):
    flawed = partial(draw_batches, LabelFlaws(noise), run.source.wording)
    options, _ = training.warm_start
    return next(iter(training_batches(run.setup, flawed, options, seed=0)))


def grpo(run, training, **changes):
    options, rewards = training.grpo
    own = {name: changes.pop(name) for name in rewards._fields if name in changes}
    options, rewards = options._replace(**changes), rewards._replace(**own)
    return label_stage("grpo", run, options, rewards, before={})


@pytest.fixture(scope="module")
def graded():
    return make()


def test_a_question_tells_the_options_and_what_is_known(graded):
    run, training = graded
    batch = draw(run, training)
    tokenizer, row = run.setup.policy.tokenizer, batch.prompt.question
    text = tokenizer.decode(row.tokens[0][row.mask[0]])
    assert "Grades: 0 tiny, 1 small" in text
    for known in run.source.wording.knowledge:
        assert known in text
    answer = batch.answer[0][batch.answer_mask[0]]
    assert answer[-1] == special_tokens(tokenizer).stop
    written = tokenizer.decode(answer[:-1])
    assert written.startswith("<think>") and written.endswith("</answer>")


def test_noisy_answers_leave_the_labels_true(graded):
    run, training = graded
    noisy, clean = (draw(run, training, noise) for noise in (1.0, 0.0))
    np.testing.assert_array_equal(noisy.label, clean.label)
    assert (noisy.answer != clean.answer).any(axis=1).all()
    self_test(run, min_words=1)


def test_baselines_know_the_training_part_as_it_is(tmp_path):
    """Six pictures of one class and two of the other, balanced for training."""
    lines = ["image,label,split"]
    for n in range(12):
        pixels = np.full((56, 56, 3), 20 * n, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        name = "solid" if n % 4 else "cyst"
        lines.append(f"{n}.png,{name},{'train' if n < 8 else 'test'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    run, training = make(f"data={tmp_path},prompt=off,recite=none")
    assert run.setup.parts.train.count == 12
    stage = label_supervised_stage("sft", run, *training.warm_start, before={})
    (batch, records), (_, blank) = stage.eval_batches()
    tokens = np.full((len(batch.valid), 2), 0, np.int32)
    nothing = Predictions(
        np.full(len(tokens), -1, np.int32),
        np.zeros((len(tokens), 2), np.float32),
        tokens,
        np.zeros(tokens.shape, bool),
    )
    zero = np.zeros(len(tokens))
    names = ("right", "parsed", "well_formed", "length", "recitation", "think_words")
    values = dict.fromkeys(names, zero) | {"valid": batch.valid, "finite": batch.valid}
    results = [(nothing, values, rows) for rows in (records, blank)]
    stage.score(results, tmp_path / "sft" / "eval" / "1")
    text = (tmp_path / "sft" / "eval" / "1" / "tables.txt").read_text()
    assert "largest by smallest in train: 3.0" in text
    (majority,) = (line for line in text.splitlines() if line.startswith("majority"))
    assert " 0.750 " in majority  # 3 of the 4 test pictures are solid


def test_classes_are_weighed_by_their_label_alone(monkeypatch):
    """The reasonings of supervised answers differ, and would weigh more than labels."""
    seen = {}
    monkeypatch.setattr(
        task, "make_evaluate", lambda _, reading, **__: seen.update(reading._asdict())
    )
    run, training = make()
    label_supervised_stage("sft", run, *training.warm_start, before={})
    texts = [
        run.setup.policy.tokenizer.decode(row[mask][:-1])
        for row, mask in zip(seen["answers"], seen["answers_mask"], strict=True)
    ]
    assert texts == [f"<think></think><answer>{n}</answer>" for n in range(5)]


def test_evaluation_asks_every_question_once(graded):
    setup = graded[0].setup
    fields = scoring(setup, "grpo", before={})
    records = [r for _, some in fields["eval_batches"]() for r in some]
    assert len({r.sample_id for r in records}) == setup.evaluation.limit == 16


def test_the_stages_systems_have_the_same_parameters(graded):
    run, training = graded
    first = label_supervised_stage("warm_start", run, *training.warm_start, before={})
    second = grpo(run, training)
    assert first.system.axes.params == second.system.axes.params
    assert second.identity["options"]["grade_rule"] == "sixteenth"
    assert second.identity["data"]["descriptions"]
    first.check()
    second.check()


def test_a_python_reward_splits_the_step(graded, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def short(completions, **_):\n    return [1] * len(completions)\n")
    stage = grpo(*graded, python_rewards={"short": f"{file}:short"})
    assert stage.system.prepare is not None
    with pytest.raises(FileNotFoundError, match="gone.py"):
        grpo(*graded, python_rewards={"short": "gone.py:short"})


def test_grade_rules_fit_the_task(graded):
    stage = partial(grpo, *graded)
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
    run, training = make("task=shapes")
    grpo(run, training)
    with pytest.raises(ValueError, match=r"shapes: its classes are not .*grade=exact"):
        grpo(run, training, grade="fuzzy")


def test_knowledge_that_does_not_fit_is_named(graded):
    with pytest.raises(ValueError, match=r"of them descriptions .*room for 40; short"):
        make(prompt__room=40)


def test_a_ground_truth_without_reasoning_is_found(graded):
    run, training = graded
    stage = grpo(with_reasons(run, ("",) * 5), training)
    self_test(run, min_words=1)
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
    run, _ = graded
    source, setup = run.source, run.setup
    forms = check_task(source.wording.task, setup.encoding.style.answer)
    text = f"<think>small</think><answer>{answer}</answer>"
    tokens = np.full((1, 40), special_tokens(setup.policy.tokenizer).pad, np.int32)
    ids = setup.policy.tokenizer.encode(text, add_special_tokens=False)
    tokens[0, : len(ids)] = ids
    mask = np.arange(40)[None] < len(ids)
    read = PARSE(tokens, mask, setup.policy.tables, label_tables(forms))
    assert int(read.label[0]) == label
    target = np.ones(1, np.int32)
    assert float(label_reward(read.label, target)[0]) == (label == 1)
    near = fuzzy_grade_reward(read.label, target, grade_table("gaussian", 5))
    assert float(near[0]) == (label == 1)


def test_a_class_that_the_first_pictures_do_not_show_is_checked_too(graded):
    """A reasoning without words of one class alone, whatever the first pictures are."""
    run, _ = graded
    setup, wording = run.setup, run.source.wording
    batches = setup.task.eval_batches(
        setup.parts, setup.encoding, batch=16, seed=0, limit=None
    )
    rows = next(iter(batches))
    unseen = next(n for n in range(5) if n not in rows[0].label[:1])
    reasons = list(wording.reasons)
    reasons[unseen] = "."
    bare = with_reasons(run, tuple(reasons))
    name = wording.task.classes[unseen]
    with pytest.raises(ValueError, match=rf"(?s)self-test: .*{name}'.*after 0 words"):
        self_test(bare, min_words=1)

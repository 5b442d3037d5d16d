"""Questions about pictures, answered in a stream of batches of one shape."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from medjax.data.asking.batches import ask_batches
from medjax.data.asking.pictures import Asked, Fault
from medjax.data.batches import Encoding
from medjax.data.lists.reading import Reading
from medjax.data.prompting.chat import Style
from medjax.recipes.policy.identity import shown_with
from medjax.recipes.policy.opened import Policy
from medjax.recipes.policy.overlays import draw_overlays
from medjax.recipes.policy.predicted import (
    ANSWERS,
    ERRORS,
    Told,
    answer_line,
    append_lines,
    check_pictures,
    check_settings,
    left_to_ask,
    note_pictures,
    read_answered,
    write_faults,
)
from medjax.recipes.policy.predictor import STRAYED, make_predictor, plan_encoding
from medjax.recipes.policy.replies import ReadFn
from medjax.recipes.policy.scoring import tell
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.policy.using import PredictOptions, load_state, policy_system
from medjax.runtime.fingerprint import fingerprint
from medjax.runtime.loop import evaluate
from medjax.sharding import Rules
from medjax.systems.policy.answering import Answers
from medjax.types import Decoding

FOLDER = "predict"  # in the workdir


class Use(NamedTuple):
    """A policy, and how it is asked."""

    policy: Policy
    style: Style
    read: ReadFn
    ramps: bool
    several: bool  # a picture may have several classes, or none
    path: Path  # of the parameters
    stage: str  # the last of the config's
    accepts: Callable[[Mapping[str, Any]], None]  # given what they were trained with


class Asking(NamedTuple):
    """What is asked, and how."""

    asked: Sequence[Asked]
    faults: Sequence[Fault]  # pictures that could not be found out about
    reading: Reading
    decoding: Decoding
    options: PredictOptions
    evaluation: Evaluation


def predict_all(
    use: Use, asking: Asking, *, workdir: Path, mesh: Mesh, rules: Rules
) -> list[str]:
    """Answer what is not answered yet, a line each as soon as its batch is done.

    Args:
        use: The policy.
        asking: Pictures and questions.
        workdir: The answers are in `workdir`/predict.
        mesh: All devices.
        rules: The mesh axes of each logical axis.

    Returns:
        What makes the result doubtful: pictures that could not be read, and answers of
        which more than half could not.

    Raises:
        ValueError: No picture could be read, the settings are others than those of the
            answers that are there, or what the policy's checkpoint does not fit.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"--mode=predict: {jax.process_count()} processes; expected one, which "
            "writes the answers down: ask a part of the pictures on each"
        )
    faults, options = list(asking.faults), asking.options
    folder = workdir / FOLDER
    answered = read_answered(folder / ANSWERS)
    left = left_to_ask(asking.asked, answered)
    noted = check_pictures(folder, asking.asked, answered)
    if not asking.asked:
        raise ValueError(_none_read(faults))
    policy = use.policy
    encoding = _encoding(use, asking)
    predictor = make_predictor(policy, encoding, asking.decoding, use.read)
    system = policy_system(policy, predictor.answer)
    where = {"mesh": mesh, "rules": rules}
    state = load_state(
        system, policy, use.path, stage=use.stage, accepts=use.accepts, **where
    )
    model = {"fingerprint": fingerprint(state.params), "step": int(state.step)}
    folder.mkdir(parents=True, exist_ok=True)
    check_settings(folder, _settings(use, asking, model), going_on=bool(answered))
    if answered:
        tell([f"{len(answered)} answers are there already, {_count(left)} are not"])
    rows = sum(-(-len(one.queries) // encoding.questions) for one in left)
    batch = min(options.batch or asking.evaluation.batch, max(rows, 1))
    batch += -batch % mesh.size
    results = evaluate(
        system,
        state,
        ask_batches(left, encoding, batch=batch, fail=faults.append),
        seed=options.seed,
        name="predict",
        total=-(-rows // batch),
        **where,
    )
    write_faults(folder, faults)
    said = list(answered.values())
    for answers, metrics, records in results:
        valid = np.asarray(metrics["valid"])
        rows_of = Answers(*(np.asarray(x)[valid] for x in answers))
        noted = note_pictures(folder, [record.asked for record in records], noted)
        replies = predictor.read(rows_of, [record.asked.size for record in records])
        pairs = list(zip(records, replies, strict=True))
        append_lines(
            folder / ANSWERS,
            [answer_line(*pair, several=use.several) for pair in pairs],
        )
        write_faults(folder, faults)
        said += [Told(reply.parsed, reply.why) for reply in replies]
    write_faults(folder, faults)
    if not said:
        raise ValueError(_none_read(faults))
    draw_overlays(folder, asking.asked, options.overlays)
    unread = sum(not one.parsed for one in said[len(answered) :])
    new = len(said) - len(answered)
    tell([f"{new} answers written to {folder / ANSWERS}, {unread} of them unreadable"])
    return _doubts(faults, folder, said)


def _encoding(use: Use, asking: Asking) -> Encoding:
    """Sized for everything that is asked, so that there is one program."""
    most = max(len(one.queries) for one in asking.asked)
    bound = asking.options.questions or asking.evaluation.questions
    return plan_encoding(
        use.policy,
        use.style,
        texts=list(dict.fromkeys(q for one in asking.asked for q in one.queries)),
        sizes=[one.size for one in asking.asked],
        questions=min(bound, most),
        ramps=use.ramps,
    )


def _settings(use: Use, asking: Asking, model: Mapping[str, Any]) -> dict[str, Any]:
    """What answers depend on beside pictures and questions."""
    decoding = asking.decoding._asdict()
    del decoding["ends"]  # they are among what the policy is shown
    if decoding["temperature"]:
        decoding["seed"] = asking.options.seed
    shown = shown_with(use.policy, use.style, ramps=use.ramps)
    reading = {"window": asking.reading.window, "pixels": asking.reading.pixels}
    return {"model": dict(model), "decoding": decoding, "read": reading, **shown}


def _count(asked: Sequence[Asked]) -> int:
    return sum(len(one.queries) for one in asked)


def _none_read(faults: Sequence[Fault]) -> str:
    lines = [f"  {fault.message}" for fault in faults[:5]]
    more = [f"  and {len(faults) - 5} more"] * (len(faults) > 5)
    what = "none of the pictures could be read" if faults else "nothing is asked"
    return "\n".join([f"--input: {what}", *lines, *more])


def _doubts(faults: Sequence[Fault], folder: Path, said: Sequence[Told]) -> list[str]:
    """What makes all answers doubtful, those of earlier calls included."""
    lines, told = [], len(said)
    unread = sum(not one.parsed for one in said)
    strayed = sum(STRAYED in one.why for one in said)
    if faults:
        lines.append(
            f"{len(faults)} pictures could not be read and are not answered, see "
            f"{folder / ERRORS}; the first: {faults[0].message}"
        )
    if unread * 2 > told:
        lines.append(
            f"{unread} of {told} answers could not be read, `why` in {ANSWERS} says "
            "for what reason: is the question one that the policy was trained for?"
        )
    if strayed * 2 > told:
        lines.append(
            f"boxes of {strayed} of {told} answers leave their pictures: they are read "
            "in pixels of the picture as it is shown. Does this policy write "
            "thousandths, or pixels of another size (policy.max_pixels)?"
        )
    return lines

"""One answer a prompt, and the self-test of right answers, whatever they are about."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import finite_rows
from medjax.types import (
    Decoding,
    EvaluateFn,
    Key,
    Params,
    PolicyBatch,
    PolicyModel,
    Prefilled,
    QuestionBatch,
    Sampler,
    TrainState,
)


class Answers(NamedTuple):
    """An answer to each of B prompts."""

    tokens: Int[Array, "B T"]
    mask: Bool[Array, "B T"]
    logp: Float[Array, "B T"]  # of each token under the policy, in nats


def answer(
    model: PolicyModel,
    params: Params,
    prefilled: Prefilled,
    batch: PolicyBatch | QuestionBatch,
    key: Key,
    decoding: Decoding,
) -> Answers:
    """One answer a prompt, greedy where the decoding's temperature is 0.

    Args:
        model: The policy, as a record of functions of its parameters.
        params: The parameters that answer.
        prefilled: The batch's prompts, as `model.prefill` gives them under `params`.
        batch: Its sample ids alone are read.
        key: Decides what is drawn, together with the sample ids; a greedy answer needs
            none.
        decoding: Its `max_tokens` cuts an answer that is longer.
    """
    rollout = model.sample(
        params, prefilled, batch.sample_id, key, group=1, decoding=decoding
    )
    return Answers(rollout.tokens[:, 0], rollout.mask[:, 0], rollout.logp[:, 0])


def evaluate_laid_out(
    sampler: Sampler,
    evaluate: EvaluateFn,
    state: TrainState,
    batch: PolicyBatch,
    key: Key,
) -> tuple[Any, dict[str, Array]]:
    """`System.evaluate` of a sampler's model, in the sampler's dtype and layout.

    Args:
        sampler: Lays the state's parameters out, once a batch.
        evaluate: Made of the sampler's model.
        state: Its parameters are those of the policy.
        batch: See `System`.
        key: Likewise.
    """
    params = sampler.lay_out(state.params)
    return evaluate(state._replace(params=params), batch, key)


def answer_questions(
    model: PolicyModel,
    decoding: Decoding,
    params: Params,
    batch: QuestionBatch,
    key: Key,
) -> Answers:
    """One answer to each of B prompts about which nothing else is known.

    Args:
        model: The policy, as a record of functions of its parameters.
        decoding: How tokens are drawn; its `max_tokens` cuts an answer that is longer.
        params: The parameters that answer.
        batch: The prompts; rows that are not valid are answered like the others.
        key: Decides what is drawn, together with the sample ids; a greedy answer needs
            none.
    """
    prefilled = model.prefill(params, batch.prompt)
    return answer(model, params, prefilled, batch, key, decoding)


def answer_metrics(answers: Answers, batch: PolicyBatch) -> dict[str, Array]:
    """What every evaluation says of its answers, [B] each.

    Args:
        answers: From `answer`.
        batch: Which of its rows are `valid` is handed on.

    Returns:
        `length` in tokens; `finite`, whether the policy's log-probabilities of an
        answer are; and `valid`, which is False for rows that only fill a batch.
    """
    return {
        "length": jnp.sum(answers.mask, axis=1, dtype=jnp.int32),
        "finite": finite_rows(answers.logp, answers.mask),
        "valid": batch.valid,
    }


def check_earned(
    earned: Bool[np.ndarray, "B"],
    valid: Bool[np.ndarray, "B"],
    describe: Callable[[int], str],
    *,
    reward: str,
    ask: str,
) -> None:
    """Raise ValueError unless every right answer earned its reward.

    Args:
        earned: Whether each did.
        valid: Rows that are not are not judged.
        describe: Tells a row: its name, what is right, what was read.
        reward: What should have been earned, such as "reward 1 at tau 0.5".
        ask: What a person may look for, in questions.

    Raises:
        ValueError: Some did not; the first five rows are told.
    """
    wrong = valid & ~earned
    if not wrong.any():
        return
    rows = [f"  {describe(i)}" for i in wrong.nonzero()[0][:5].tolist()]
    raise ValueError(
        f"self-test: {wrong.sum()} of {valid.sum()} ground-truth answers do not earn "
        f"{reward}:\n" + "\n".join(rows) + f"\n{ask}"
    )

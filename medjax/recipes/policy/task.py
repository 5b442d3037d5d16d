"""A task as a value: what kind of answers a run is about, boxes or classes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grain

from medjax.data.batches import Encoding, Parts
from medjax.evals.tables import Table
from medjax.rl.text.boxes import ParseTables
from medjax.types import Decoding, EvaluateFn, PolicyModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Scored = Mapping[str, Any]  # an evaluation's scores by name


class Story(NamedTuple):
    """What happened, in words, a sentence each."""

    lines: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()  # what speaks against it, which is marked


StoryFn = Callable[[Path], Story]  # a stage's folder -> the words about its training
TellFn = Callable[[Path], Table | None]  # a stage's folder -> what it says of training


class Evaluation(NamedTuple):
    """The section `evaluation` of a config: how each stage is evaluated."""

    every: int  # steps; 0: at the end of a stage only
    batch: int  # pictures at a time
    questions: int  # about each
    limit: int  # questions in all; 0: all there are
    seed: int  # of their order, of moved pictures and of the bootstrap
    bootstrap: int  # resamples of an interval
    level: float  # of an interval, such as 0.95
    draws: int = 0  # of several labels: answers drawn a question, for AUROC; 0: none
    no_image: bool = False  # ask all again about blank pictures: a row of the tables
    # rows of other runs: a name -> the folder of their answers, RUN/STAGE/eval
    beside: Mapping[str, str] | None = None
    subgroups: tuple[str, ...] = ()  # columns of the data to show scores by
    unanswered: str = "refuse"  # or "wrong": questions that a file does not answer

    @property
    def resampling(self) -> dict[str, Any]:
        """How intervals are made, as the tables of `evals` take it."""
        return {
            "num_samples": self.bootstrap,
            "level": self.level,
            "seed": self.seed,
        }


class ScoredStage(NamedTuple):
    """A stage whose evaluations are scored."""

    name: str  # which its row of the tables has
    # the policy's: answers are written down by it; None: they were, by somebody else
    tokenizer: "PreTrainedTokenizerBase | None"
    evaluation: Evaluation
    # earlier evaluations that get rows of their own: a row's name -> folder, see
    # `earlier_rows`; one that was asked other questions is left out
    before: Mapping[str, Path]
    tell: tuple[TellFn, ...] = ()  # tables about the training, for the report alone
    words: StoryFn | None = None  # about the training, likewise

    @property
    def earlier(self) -> tuple[str, ...]:
        """The rows that its training began from: somebody else's answers have none."""
        return () if self.tokenizer is None else tuple(self.before)

    def told(self, folder: Path) -> list[Table]:
        """The tables about the training that have something to say.

        Args:
            folder: STAGE/eval/STEP; STAGE above it has the metrics.
        """
        tables = [tell(folder.parents[1]) for tell in self.tell]
        return [table for table in tables if table is not None]

    def story(self, folder: Path, lines: Sequence[str]) -> Story:
        """The words about the training, and then those about its scores.

        Args:
            folder: STAGE/eval/STEP; STAGE above it has the metrics.
            lines: About the scores.
        """
        told = Story() if self.words is None else self.words(folder.parents[1])
        return Story((*told.lines, *lines), told.doubts)


class TrainBatches(Protocol):
    """An endless stream of batches whose written answers are right."""

    def __call__(
        self,
        parts: Parts,
        encoding: Encoding,
        *,
        batch: int,
        seed: int,
        process_index: int,
        process_count: int,
    ) -> grain.IterDataset:
        """Batches of `batch` pictures each; equal seeds give equal ones.

        Args:
            parts: Batches are drawn of the training part.
            encoding: How pictures become arrays, and how many questions each is asked.
            batch: How many pictures of a batch this process makes, 1 or more.
            seed: Decides the order, how pictures are moved and what is asked.
            process_index: The number of this process, from 0; each has draws of its
                own.
            process_count: How many processes there are.
        """
        ...


class EvalBatches(Protocol):
    """Every question of the test part once, with the records of the valid rows."""

    def __call__(
        self,
        parts: Parts,
        encoding: Encoding,
        *,
        batch: int,
        seed: int,
        limit: int | None,
    ) -> Iterator[tuple[Any, list[Any]]]:
        """Pairs of a batch and the records of its valid rows.

        Args:
            parts: Questions are asked about the test part.
            encoding: How pictures become arrays, and how many questions a row of it
                has.
            batch: How many pictures a batch has; the last one is filled up.
            seed: Decides how pictures are moved, and their order where there is a
                limit.
            limit: How many questions are asked at most; None asks all, picture by
                picture.
        """
        ...


class FindRecords(Protocol):
    """A function from the sample ids of training batches to their records."""

    def __call__(
        self, parts: Parts, encoding: Encoding, *, seed: int
    ) -> Callable[[Sequence[int]], list[Any]]:
        """For batches that were drawn with the same `encoding` and `seed`."""
        ...


class MakeEvaluate(Protocol):
    """Makes `System.evaluate` of a policy."""

    def __call__(
        self, model: PolicyModel, tables: ParseTables, *, decoding: Decoding
    ) -> EvaluateFn:
        """`decoding` is greedy, and as long as the longest right answer."""
        ...


class Score(Protocol):
    """Scores a stage's results, and writes them into a folder from process 0."""

    def __call__(
        self, stage: ScoredStage, results: Iterable[Any], folder: Path
    ) -> Scored:
        """The scores; the folder gets tables and answers.jsonl.

        Args:
            stage: Its name, and how it is evaluated.
            results: (predictions, metrics, records) of each batch, at least one; with
                `no_image` those about blank pictures after the others.
            folder: STAGE/eval/STEP; STAGE above it gets the report.
        """
        ...


class Task(NamedTuple):
    """How answers are asked for, read, checked, scored and shown."""

    train_batches: TrainBatches
    eval_batches: EvalBatches
    make_evaluate: MakeEvaluate
    score: Score
    find_records: FindRecords
    # of records, what a reward in Python is given: a list a column
    columns: Callable[[Sequence[Any]], dict[str, list[Any]]]
    # (identity of the data that a policy was trained with, of ours); raises where
    # their words differ
    check_words: Callable[[Mapping[str, Any], Mapping[str, Any]], None]

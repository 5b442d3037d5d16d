"""A policy as a run has it: a fresh one, or an opened checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from medjax.data.prompting.chat import Style
from medjax.data.prompting.generation import Drawing
from medjax.data.prompting.layout import Geometry
from medjax.planning.auto import ArrayAxes, Widths
from medjax.planning.layout import Unit
from medjax.rl.text.boxes import ParseTables
from medjax.types import Ends, Params, PolicyModel, Sampler

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Adapted(NamedTuple):
    """How the adapter of a policy is exported, where all that is trained is one."""

    save: Callable[[Path, Params], None]  # the whole tree's adapter, as PEFT reads it
    merge: Callable[[Params], Params]  # the whole tree -> its base, the adapter in it
    merged: bool  # whether the merged policy is exported too
    words: str  # what a card says of it


class Policy(NamedTuple):
    """All that a run derives from its policy, derived once."""

    model: PolicyModel
    tokenizer: "PreTrainedTokenizerBase"
    geometry: Geometry  # how images are cut
    tables: ParseTables  # of the model's vocabulary, to read its tokens
    ends: Ends  # of its completions
    digest: str  # of the tokenizer
    identity: Mapping[str, Any]  # what bears on its numbers, as a JSON document
    # its weights, placed as a tree of shardings says; None: they are drawn
    load: Callable[[Params], Params] | None
    save: Callable[[Path, Params], None]  # a folder that transformers and vLLM read
    # raises where its folder's chat template writes other words than this style
    check_style: Callable[[Style], object]
    drawing: Drawing  # its folder's wish for prediction; training never reads it
    # whether its folder was trained with `add_ramps`; None where nothing says so
    ramps: bool | None = None
    sampler: Sampler | None = None  # for rollouts; None: the model itself
    adapted: Adapted | None = None  # None: all parameters are trained

    @property
    def start(self) -> Callable[[Params], Params] | None:
        """What a first stage begins from: the weights; None where they are drawn.

        Of an adapted policy that is the adapter, which is always drawn.
        """
        return self.load if self.adapted is None else None

    @property
    def base(self) -> Callable[[Params], Params] | None:
        """What loads the parameters that are never trained; None without any."""
        return None if self.adapted is None else self.load


def check_ramps(policy: Policy, ramps: bool) -> None:
    """Refuse a folder that was trained with coordinate ramps, or without, otherwise.

    Args:
        policy: One whose folder does not say so is taken as it is.
        ramps: Whether pictures have ramps here.

    Raises:
        ValueError: The two differ.
    """
    if policy.ramps is not None and policy.ramps != ramps:
        raise ValueError(
            f"the folder of policy.path was trained with ramps={policy.ramps} (its "
            f"medjax.json), here pictures have ramps={ramps}: its places would be "
            f"wrong; --config.data.ramps={policy.ramps}"
        )


class Finish(Protocol):
    """Makes the policy once the words that it will meet are known."""

    def __call__(
        self, texts: Sequence[str], answers: Sequence[str], *, style: Style
    ) -> Policy:
        """The policy, complete.

        A fresh policy's tokenizer learns these words; a checkpoint has its own.

        Args:
            texts: Every question that can be asked, without the style's suffix.
            answers: Answers such as the policy will write.
            style: The words around a question, which the tokenizer learns too.
        """
        ...


class Opening(NamedTuple):
    """What is known of a policy before the words that it will meet are known."""

    geometry: Geometry
    finish: Finish


class Outline(NamedTuple):
    """What a mesh has to know of a policy."""

    units: Sequence[Unit]  # that it must not cut
    widths: Widths
    patch: int  # pixels of a side
    merge: int  # patches of a side that one token stands for


class OpenFolder(Protocol):
    """Opens a folder without a config."""

    def __call__(
        self, folder: Path, *, pixels: tuple[int, int] | None, dtype: str
    ) -> Opening:
        """The policy of a Hugging Face folder.

        Args:
            folder: Of this base model.
            pixels: The fewest and the most that an image is shown at; None: as the
                folder says.
            dtype: What is computed in.
        """
        ...


class LoadWeights(Protocol):
    """Reads the parameters of a Hugging Face folder."""

    def __call__(
        self, folder: Path, shardings: Params, *, param_dtype: str = "float32"
    ) -> Params:
        """The parameters in a dtype, each placed as the tree of shardings says."""
        ...


class Opener(NamedTuple):
    """What a base model gives to those who name it in a config."""

    open_section: Callable[[Mapping[str, Any]], Opening]  # of a config
    # how images are cut, of a section alike: neither tokenizer nor weights are read
    section_geometry: Callable[[Mapping[str, Any]], Geometry]
    section_outline: Callable[[Mapping[str, Any]], Outline]  # its sizes, likewise
    section_arrays: Callable[[Mapping[str, Any]], Sequence[ArrayAxes]]  # likewise
    open_folder: OpenFolder
    load_weights: LoadWeights
    # what a folder says of the training, as parts of an identity
    describe: Callable[[Path], Mapping[str, Any]]

"""Records that cross module boundaries, and the letters their shapes are written in.

==  =====================================================================
M   contexts in a batch: one image (or several) and the text up to it
Q   questions asked about one context;  B = M * Q prompts, a group of completions each
G   completions sampled for one prompt (the group);  N = B * G completions
R   rows at any of these levels: of contexts, of prompts or of completions
K   image slots of a context;  P patches of an image;  F its features
L   prompt tokens;  T completion tokens;  V vocabulary;  D width
W   entries in the window of the moving threshold
==  =====================================================================

A prompt is two segments, *context* (everything up to the last image) and
*question* (the rest), because attention is causal: the context is computed once
for its Q questions and each prompt once for its G completions. Rows of a deeper
level that share a row above are consecutive.

Quantitative MRI has letters of its own:

======  =================================================================
B       slices in a batch;  N voxels
E       contrasts: echoes or inversion times
C       coils;  H, W  rows and columns of an image
K       components of a temporal subspace;  S  stages of an unrolled net
======  =================================================================
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jax.export import register_namedtuple_serialization
from jaxtyping import Array, Bool, Complex, Float, Int

Params = Any  # a pytree of arrays
Key = Array  # a typed PRNG key, shape ()
Prefilled = Any  # a prompt as its completions see it; a base model has its own record


class Images(NamedTuple):
    """K image slots per context, patches in padded window order.

    P = W * S: W windows of S patches each (S = 64 for Qwen2.5-VL), a window cut by the
    image's edge is filled up with padding, an image with fewer windows likewise. Inside
    a window the order is merge-block order, so a feature is 4 consecutive patches and
    windowed attention is a reshape. Sides that are multiples of the window waste none.
    """

    patches: Float[Array, "M K P E"]  # normalised pixels of a patch, (C, T, p, p)
    rows_cols: Int[Array, "M K P 2"]  # patch coordinates inside the image
    mask: Bool[Array, "M K P"]  # 1 = a patch of an image


class Segment(NamedTuple):
    """Rows of tokens; padding may stand on either side, `mask` says where."""

    tokens: Int[Array, "R L"]
    mask: Bool[Array, "R L"]
    positions: Int[Array, "R L 3"]  # mRoPE (t, h, w)
    features: Int[Array, "R L"]  # index into the row's K * F image features, -1 = text


class Prompt(NamedTuple):
    """M contexts with Q questions each; B = M * Q rows of questions."""

    images: Images
    context: Segment  # [M, Lc]
    question: Segment  # [B, Lq], padded on the left: the last column is never padding
    next_position: Int[Array, "B"]  # position (all axes) of the first new token


class Rollout(NamedTuple):
    """G completions of each of B prompts."""

    tokens: Int[Array, "B G T"]
    mask: Bool[Array, "B G T"]  # up to and including the first stop token
    logp: Float[Array, "B G T"]  # under the policy: temperature 1, whole vocabulary
    logp_sampling: Float[Array, "B G T"]  # under what was sampled from


class Ends(NamedTuple):
    """What ends a completion, and what fills the rest of its row."""

    stop_tokens: tuple[int, ...]  # any of them is a completion's last token
    pad: int


class Decoding(NamedTuple):
    """How tokens are drawn; made per use: a stage explores, an evaluation is greedy."""

    ends: Ends
    max_tokens: int  # T; a completion without a stop token is cut there
    temperature: float  # 0 takes the most likely token
    top_k: int | None = None  # draw from so many most likely tokens; None: from all
    top_p: float | None = None  # from the fewest tokens of this share; None: from all


class SampleFn(Protocol):
    """G completions of each prompt; the key is consumed."""

    def __call__(
        self,
        params: Params,
        prefilled: Prefilled,
        sample_id: Int[Array, "B"],
        key: Key,
        *,
        group: int,
        decoding: Decoding,
    ) -> Rollout:
        """Noise depends on (key, sample id, place in the group, token index) alone."""
        ...


class Adapter(NamedTuple):
    """What of a policy is learnt where its other parameters, the base, never change.

    A tree without its part of it is a whole policy: the base as it was before training.
    `split` and `join` work on trees of anything, such as arrays, specs or shardings.
    """

    init: Callable[[Key], Params]  # one that adds nothing; the key is consumed
    split: Callable[[Params], tuple[Params, Params]]  # (the adapter, the base)
    join: Callable[[Params, Params], Params]  # of (the base, the adapter)


class PolicyModel(NamedTuple):
    """A base model as a record of pure functions; systems know nothing else of it.

    A prompt is computed once by `prefill`, for any number of `sample` and `score`.
    `score` gives the log-probability of each token of G completions a prompt and the
    entropy there, in nats, at temperature 1 over the whole vocabulary; padding of the
    rows is marked by a mask of 0 and its scores mean nothing.
    """

    init: Callable[[Key], Params]  # random parameters; the key is consumed
    axes: Params  # jax.sharding.PartitionSpec of logical axis names, one per array
    prefill: Callable[[Params, Prompt], Prefilled]
    sample: SampleFn
    score: Callable[
        [Params, Prefilled, Int[Array, "B G T"], Bool[Array, "B G T"]],
        tuple[Float[Array, "B G T"], Float[Array, "B G T"]],
    ]
    adapter: Adapter | None = None  # all that is trained of it; None: everything is


class Sampler(NamedTuple):
    """A policy as a rollout reads it: in the dtype and the layout that sampling likes.

    Its numbers are those of the policy to rounding; tokens drawn are the sampler's.
    """

    lay_out: Callable[[Params], Params]  # the policy's parameters, once a rollout
    model: PolicyModel  # of what `lay_out` makes; its `prefill` and `sample` are used
    exact: bool  # nothing is cast: parameters are of the dtype that is computed in


class GroundingBatch(NamedTuple):
    """One step's data for `medloc`."""

    prompt: Prompt
    boxes: Float[Array, "B 4"]  # target (x1, y1, x2, y2), pixels of the resized image
    valid: Bool[Array, "B"]  # 0 = a row that only fills the batch
    sample_id: Int[Array, "B"]  # keys the rollout's noise, whatever the batch layout
    answer: Int[Array, "B T"]  # the supervised answer, stop token included
    answer_mask: Bool[Array, "B T"]


class BoxSetBatch(NamedTuple):
    """One step's data for `medloc` where an answer is a set of 0 to 8 boxes."""

    prompt: Prompt
    boxes: Float[
        Array, "B 8 4"
    ]  # targets (x1, y1, x2, y2), pixels of the resized image
    box_valid: Bool[Array, "B 8"]  # 0 = no box, but a place that is free
    valid: Bool[Array, "B"]  # 0 = a row that only fills the batch
    sample_id: Int[Array, "B"]  # keys the rollout's noise, whatever the batch layout
    answer: Int[Array, "B T"]  # the supervised answer, stop token included
    answer_mask: Bool[Array, "B T"]


class LabelBatch(NamedTuple):
    """One step's data for `vrft_aug`: classes and grades."""

    prompt: Prompt
    # index of the true class; of a task of several labels marks [B, C]
    label: Int[Array, "B"] | Bool[Array, "B C"]
    valid: Bool[Array, "B"]  # 0 = a row that only fills the batch
    sample_id: Int[Array, "B"]  # keys the rollout's noise, whatever the batch layout
    answer: Int[Array, "B T"]  # the supervised answer, stop token included
    answer_mask: Bool[Array, "B T"]


PolicyBatch = GroundingBatch | BoxSetBatch | LabelBatch  # what a policy learns from


class QuestionBatch(NamedTuple):
    """Prompts alone, to be answered: nothing is known of what is right."""

    prompt: Prompt
    valid: Bool[Array, "B"]  # 0 = a row that only fills the batch
    sample_id: Int[Array, "B"]  # keys a drawn answer's noise, whatever the batch layout


class QmriBatch(NamedTuple):
    """B slices of undersampled multi-coil k-space for `puq`.

    A mask of H = 1 stands for whole lines: the same columns in every row.
    """

    kspace: Complex[Array, "B E C H W"]  # centred, 0 where not sampled
    mask: Bool[Array, "B E H W"]  # or [B E 1 W]
    sens: Complex[Array, "B C H W"]  # sum_c |S_c|^2 = 1
    target: Float[Array, "B E H W"]  # noiseless, fully sampled, signed; largest 1
    roi: Bool[Array, "B H W"]  # where maps are judged
    valid: Bool[Array, "B"]  # 0 = a row that only fills the batch
    sample_id: Int[Array, "B"]  # keys a slice's noise, whatever the batch layout


class TrainState(NamedTuple):
    """Everything a step reads and writes."""

    params: Params
    opt_state: Any
    step: Int[Array, ""]
    aux: Any = ()  # the system's own carry, such as a ThresholdState


class InitFn(Protocol):
    """The state before the first step, from random parameters or from those given."""

    def __call__(self, key: Key, params: Params | None = None) -> TrainState:
        """`key` is consumed where the parameters are drawn."""
        ...


EvaluateFn = Callable[[TrainState, Any, Key], tuple[Any, dict[str, Array]]]


class System(NamedTuple):
    """A training system as pure functions; the loop jits them, sharded by `axes`.

    init(key[, params]) -> TrainState                  random, or from `params`
    update(state, batch, key) -> (state, metrics)      state may be donated
    evaluate(state, batch, key) -> (predictions, per-example metrics); it reads params
        and step alone, the rest of the state may be ()
    axes: TrainState of jax.sharding.PartitionSpec of logical axis names, one per array
    prepare(state, batch, key) -> batch, only where a host-side Python reward must sit
    between two compiled calls; update then takes what prepare returns.

    `key` is consumed; the loop passes fold_in(root, step).
    """

    init: InitFn
    update: Callable[[TrainState, Any, Key], tuple[TrainState, dict[str, Array]]]
    evaluate: EvaluateFn
    axes: TrainState
    prepare: Callable[[TrainState, Any, Key], Any] | None = None
    # all of the parameters that `update` moves, and that checkpoints hold; None: all
    adapter: Adapter | None = None


# So that programs with them as arguments or results can be written and read.
for _record in (
    BoxSetBatch,
    GroundingBatch,
    Images,
    LabelBatch,
    Prompt,
    QmriBatch,
    QuestionBatch,
    Rollout,
    Segment,
    TrainState,
):
    register_namedtuple_serialization(
        _record, serialized_name=f"medjax.{_record.__name__}"
    )

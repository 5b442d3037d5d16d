"""The mesh that is chosen for the released sizes, and what is estimated of each.

Measured: peaks of steps that were compiled for TPUs at true size, all weights trained
in float32 with a reference, G = 8, 1,024 image tokens, 512 new tokens, logit chunk 32;
`docs/howto/plan.md` has one of them.
"""

import math

import pytest

from medjax.models.qwen25vl import Qwen25VLConfig, VisionConfig
from medjax.planning.auto import (
    Load,
    ParameterBytes,
    choice_line,
    choose_sizes,
    estimate_bytes,
    held,
    undivided,
)
from medjax.planning.chips import GIB, parse_topology
from medjax.planning.layout import cut, divided, fit_rules
from medjax.recipes.policy.qwen25vl_outline import array_axes, outline_of

NAMES = ("data", "fsdp", "model")
RULES = {
    **dict.fromkeys(("layers", "norm", "patch"), ()),
    **dict.fromkeys(("vocab", "mlp", "heads", "kv_heads"), ("model",)),
    **dict.fromkeys(("vision_mlp", "vision_heads"), ("model",)),
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),
}
ROLLOUT_RULES = RULES | {"embed": ()}
KINDS = ParameterBytes(kept=4, optimizer=8, reference=4, computed=2)
# width, hidden units, layers, heads, key-value heads, vocabulary, of the tower's units
SIZES = {
    "3B": (2048, 11008, 36, 16, 2, 151936, 3420),
    "7B": (3584, 18944, 28, 28, 4, 152064, 3420),
    "32B": (5120, 27648, 64, 40, 8, 152064, 3456),
    "72B": (8192, 29568, 80, 64, 8, 152064, 3456),
}
PARAMETERS = {"3B": 3.755e9, "7B": 8.292e9, "32B": 33.453e9, "72B": 73.411e9}


def config_of(name):
    width, mlp, layers, heads, kv_heads, vocab, hidden = SIZES[name]
    return Qwen25VLConfig(
        **{"vocab": vocab, "width": width, "mlp": mlp, "layers": layers},
        **{"heads": heads, "kv_heads": kv_heads, "head_dim": 128},
        mrope_section=(16, 24, 24),
        tied=name == "3B",
        vision=VisionConfig(
            depth=32, width=1280, mlp=hidden, heads=16, full_blocks=(7, 15, 23, 31)
        ),
    )


@pytest.fixture(scope="module", params=SIZES)
def policy(request):
    name = request.param
    config = config_of(name)
    return name, outline_of(config), array_axes(config)


def load_of(contexts, accumulate):
    return Load(
        **{"contexts": contexts, "accumulate": accumulate, "answers": 8},
        **{"prompt": 1152, "answer": 512, "patches": 4096, "scored": 32},
        **{"drawn": True, "recomputed": True},
    )


def estimate(outline, arrays, load, sizes, kinds=KINDS):
    fitted = [fit_rules(r, sizes, outline.units)[0] for r in (RULES, ROLLOUT_RULES)]
    rules = dict(zip(("rules", "rollout_rules"), fitted, strict=True))
    return estimate_bytes(arrays, outline.widths, load, kinds, sizes=sizes, **rules)


def on_torus(sizes, torus):
    """Whether axes of a mesh are products of axes of a torus, each used once."""
    left = list(sizes)
    for axis in torus:
        fits = [i for i, size in enumerate(left) if size % axis == 0 and size > 1]
        if not fits:
            return False
        left[fits[0]] //= axis
    return left == [1] * len(left)


def choose(outline, arrays, topology, contexts, accumulate=1, batches=(), **given):
    chips, load = parse_topology(topology), load_of(contexts, accumulate)

    def refuse(sizes):
        fault = cut(outline.units, RULES, sizes)
        if fault is not None:
            return fault
        parts = divided("batch", RULES, sizes)
        if contexts % (parts * accumulate):
            return f"{contexts} pictures on {parts} devices"
        fault = undivided(arrays, fit_rules(RULES, sizes, outline.units)[0], sizes)
        # v5e's axes may be split, those of v5p may not
        if fault is None and chips.chip.name == "v5p":
            return None if on_torus(sizes.values(), chips.shape) else "not linked so"
        return fault

    return choose_sizes(
        dict.fromkeys(NAMES, -1) | given,
        chips.count,
        refuse=refuse,
        estimate=lambda sizes: estimate(outline, arrays, load, sizes),
        memory=chips.chip.hbm,
    )


def test_parameters_are_counted(policy):
    name, _, arrays = policy
    whole = held(arrays, RULES, {})
    assert whole == pytest.approx(PARAMETERS[name], rel=1e-3)
    # what the tower and the norms hold whole is small
    share = held(arrays, RULES, {"fsdp": 4, "model": 4}) / whole
    assert share == pytest.approx(1 / 16, rel=0.02)


def test_a_base_beside_an_adapter_has_no_gradient(policy):
    _, outline, arrays = policy
    sizes = {"data": 1, "fsdp": 4, "model": 1}
    own = held(arrays, RULES, sizes)
    full = estimate(outline, arrays, load_of(4, 1), sizes)
    base = ParameterBytes(kept=4, optimizer=0, reference=0, computed=2, trained=False)
    found = estimate(outline, arrays, load_of(4, 1), sizes, base)
    assert found.state == pytest.approx(4 * own)
    assert full.state - found.state == pytest.approx(12 * own)
    assert full.learner - found.learner == pytest.approx(4 * own)
    assert full.rollout == found.rollout


# topology, contexts, accumulate, the mesh that was compiled, its peak in bytes
MEASURED = {
    "3B": ("v5e:4x4", 32, 4, (1, 4, 4), 11.6 * GIB),
    "7B": ("v5e:8x8", 64, 1, (1, 16, 4), 12.8e9),
    "32B": ("v5p:4x4x4", 64, 1, (1, 16, 4), 31.2e9),
}


def test_estimates_are_no_less_than_what_was_measured_and_less_than_twice(policy):
    name, outline, arrays = policy
    if name not in MEASURED:
        assert name == "72B"  # of which only layouts that are no more were compiled
        return
    _, contexts, accumulate, mesh, peak = MEASURED[name]
    sizes = dict(zip(NAMES, mesh, strict=True))
    found = estimate(outline, arrays, load_of(contexts, accumulate), sizes)
    assert peak <= found.needed < 2 * peak


CHOSEN = {
    ("3B", "v5e:4x4"): (32, 4, (1, 8, 2)),
    ("3B", "gpu:8"): (32, 4, (4, 2, 1)),
    ("7B", "v5e:8x8"): (64, 1, (1, 32, 2)),
    ("7B", "gpu:8"): (32, 4, (1, 8, 1)),
    ("32B", "v5p:4x4x4"): (64, 1, (1, 16, 4)),
    ("72B", "v5p:4x4x4"): (64, 1, (1, 16, 4)),
}


def test_the_least_divided_mesh_that_fits_is_chosen(policy):
    name, outline, arrays = policy
    for (size, topology), (contexts, accumulate, mesh) in CHOSEN.items():
        if size != name:
            continue
        chosen = choose(outline, arrays, topology, contexts, accumulate)
        assert chosen.fits and tuple(chosen.sizes.values()) == mesh, topology
        chips = parse_topology(topology)
        assert math.prod(chosen.sizes.values()) == chips.count
        line = choice_line(chosen, chips.chip.hbm)
        assert f"of {chips.chip.hbm / GIB:.3g} a device" in line


def test_a_size_that_was_given_stays():
    config = config_of("3B")
    outline, arrays = outline_of(config), array_axes(config)
    found = choose(outline, arrays, "v5e:4x4", 32, 4, model=4)
    assert found.sizes == {"data": 1, "fsdp": 4, "model": 4} and found.fits
    found = choose(outline, arrays, "v5e:4x4", 32, 4, data=4)
    assert found.sizes["data"] == 4
    with pytest.raises(ValueError, match=r"no mesh of 16 .*'model': 3.*do not multi"):
        choose(outline, arrays, "v5e:4x4", 32, 4, model=3)
    with pytest.raises(ValueError, match="no mesh of 16 .*model 1: 7 pictures on 16"):
        choose(outline, arrays, "v5e:4x4", 7, 1, model=1)


def test_what_does_not_fit_anywhere_is_said_with_the_mesh_that_needs_least():
    config = config_of("72B")
    outline, arrays = outline_of(config), array_axes(config)
    found = choose(outline, arrays, "v5e:4x4", 16)
    assert not found.fits
    every = [
        estimate(outline, arrays, load_of(16, 1), dict(zip(NAMES, x, strict=True)))
        for x in ((1, 16, 1), (1, 4, 4), (1, 1, 16), (4, 4, 1))
    ]
    assert found.estimate.needed <= min(one.needed for one in every)
    assert "IT MAY NOT FIT" in choice_line(found, 15.75 * GIB)


def test_without_a_memory_the_first_that_will_do_is_taken():
    config = config_of("3B")
    outline, arrays = outline_of(config), array_axes(config)
    found = choose_sizes(
        {"data": -1, "fsdp": 1, "model": -1},
        6,
        refuse=lambda sizes: "too many" if sizes["data"] > 3 else None,
        estimate=lambda sizes: estimate(outline, arrays, load_of(6, 1), sizes),
        memory=None,
    )
    assert found.sizes == {"data": 3, "fsdp": 1, "model": 2} and found.fits
    assert found.reason == "data 6, fsdp 1, model 1: too many"
    assert "how much there is is not known" in choice_line(found, None)

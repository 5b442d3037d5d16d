"""Rules keep whole what a mesh would cut, for the sizes of the released policies."""

import pytest

from medjax.planning.layout import Unit, fit_rules

RULES = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),
    "heads": ("model",),
    "kv_heads": ("model",),
    "vision_mlp": ("model",),
}
SMALL = ("kv_heads", "vision_mlp")
# heads, key-value heads, hidden units of the vision tower and of what joins it
SIZES = {
    "3B": (16, 2, (3420, 5120)),
    "7B": (28, 4, (3420, 5120)),
    "32B": (40, 8, (3456, 5120)),
    "72B": (64, 8, (3456, 5120)),
}


def units(name):
    heads, kv_heads, hidden = SIZES[name]
    return [
        Unit("heads", "heads", (heads,), small=False),
        Unit("kv_heads", "key-value heads", (kv_heads,), small=True),
        Unit("vision_mlp", "hidden units", hidden, small=True),
    ]


def mesh_of(model, fsdp=2):
    return {"data": 1, "fsdp": fsdp, "model": model}


@pytest.mark.parametrize(
    ("name", "model", "whole"),
    [
        ("3B", 1, ()),
        ("3B", 2, ()),
        ("3B", 4, ("kv_heads",)),
        ("3B", 8, ("kv_heads", "vision_mlp")),  # 3,420 is 4 x 855
        ("7B", 4, ()),
        ("32B", 8, ()),
        ("72B", 16, ("kv_heads",)),
    ],
)
def test_small_parts_that_do_not_divide_are_kept_whole_and_told(name, model, whole):
    fitted, told = fit_rules(RULES, mesh_of(model), units(name))
    assert fitted == RULES | dict.fromkeys(whole, ())
    assert len(told) == len(whole)
    for line in told:
        assert f"not divisible by the {model} devices of model: each device" in line
    # what is whole already stays so, and is not told of again
    assert fit_rules(fitted, mesh_of(model), units(name)) == (fitted, [])


def test_a_line_has_the_number_that_does_not_divide_and_no_other():
    (line,) = fit_rules(RULES, mesh_of(2**10 * 5), [units("32B")[2]])[1]
    assert line.startswith("3456 hidden units are not")


@pytest.mark.parametrize(
    ("name", "model", "nearest"),
    [("7B", 8, (1, 4, 4)), ("32B", 16, (1, 4, 8)), ("3B", 32, (1, 4, 16))],
)
def test_a_mesh_that_cuts_heads_is_refused_and_the_nearest_named(name, model, nearest):
    with pytest.raises(ValueError, match=rf"{SIZES[name][0]} heads are not") as error:
        fit_rules(RULES, mesh_of(model), units(name))
    sizes = dict(zip(("data", "fsdp", "model"), nearest, strict=True))
    assert str(error.value).endswith(f"the nearest mesh that divides them is {sizes}")


def test_rules_over_two_mesh_axes_divide_by_both():
    rules = RULES | {"kv_heads": ("fsdp", "model")}
    fitted, told = fit_rules(rules, mesh_of(2, fsdp=4), units("7B"))
    assert fitted["kv_heads"] == () and "8 devices of fsdp, model" in told[0]

"""Topologies are parsed or refused by name, and chips known by what jax calls them."""

import pytest

from medjax.planning.chips import CHIPS, chip_of, parse_topology


@pytest.mark.parametrize(
    ("name", "chip", "count"),
    [("v5e:4x4", "v5e", 16), ("v5p:4x4x4", "v5p", 64), ("gpu:8", "h100", 8)],
)
def test_a_topology_is_a_chip_and_a_shape(name, chip, count):
    found = parse_topology(name)
    assert (found.chip.name, found.count) == (chip, count)


@pytest.mark.parametrize(
    "name", ["v9:4x4", "v5e", "v5e:", "v5e:4x4x4", "v5p:4x4", "gpu:0", "gpu:2x4", ""]
)
def test_others_are_refused_and_the_known_are_listed(name):
    with pytest.raises(ValueError, match="v5e:8x8.*v5p:4x4x4.*gpu:8") as error:
        parse_topology(name)
    assert f"--topology={name}:" in str(error.value)


def test_each_example_is_one():
    for chip in CHIPS.values():
        assert {parse_topology(x).chip for x in chip.examples} == {chip}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        # another chip under the same name, with other peaks
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA GeForce RTX 4090", None),
        ("cpu", None),
    ],
)
def test_chips_are_known_by_what_jax_calls_them(kind, name):
    found = chip_of(kind)
    assert (found.name if found else None) == name

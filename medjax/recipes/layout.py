"""Where a run's arrays lie: the mesh, and rules that suit what the config trains."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medjax.sharding import make_mesh


class Layout(NamedTuple):
    """A config whose rules suit its policy and the mesh; the mesh with these rules."""

    config: Mapping[str, Any]
    devices: Mapping[str, Any]  # mesh and rules


def lay_out(
    config: Mapping[str, Any], devices: Sequence[Any] | None, topology: str = ""
) -> Layout:
    """The mesh of a config, and its rules with what it does not divide kept whole.

    Where several sizes of a policy's mesh are -1 they are chosen, see
    `planning.auto.choose_sizes`. What is chosen, and what is kept whole, is said in
    printed lines.

    Args:
        config: The whole one; its sections `mesh`, `rules` and, where there is one,
            `policy` are read; where the mesh is chosen the stages' too.
        devices: See `make_mesh`.
        topology: The name of the chips that they are, or stand for; "": of this
            machine.

    Raises:
        FileNotFoundError: The policy's folder has no config.json.
        ValueError: The mesh does not fit the devices, or does not divide the policy;
            the nearest that does is named.
    """
    if config.get("policy") is None:
        mesh = make_mesh(config["mesh"], devices)
    else:  # a second of imports that no scan needs
        from medjax.recipes.policy.layout import suited

        config, mesh = suited(config, devices, topology)
    return Layout(config, {"mesh": mesh, "rules": config["rules"]})

"""A Qwen2.5-VL whose low-rank adapter alone is trained: options, identity, export."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from medjax.recipes.policy.opened import Adapted, Policy
from medjax.recipes.policy.qwen25vl_folder import weights_digest
from medjax.systems.policy.qwen25vl import (
    Lora,
    Qwen25VLConfig,
    find_targets,
    merge_lora,
    save_lora,
    split_lora,
)
from medjax.types import Params


class LoraSection(NamedTuple):
    """The section `policy.lora`: an adapter that is trained in place of all."""

    rank: int | None = None  # None: no adapter
    alpha: float = 32.0
    targets: tuple[str, ...] = ()
    merged: bool = True  # an export writes the merged policy too


def read_lora(section: LoraSection) -> Lora | None:
    """The adapter that a section asks for, unchecked; None where it asks for none.

    Args:
        section: Of the config.
    """
    if section.rank is None:
        return None
    return Lora(section.rank, section.alpha, tuple(section.targets))


def adapt(
    policy: Policy, config: Qwen25VLConfig, folder: Path, section: LoraSection
) -> Policy:
    """The policy as one whose adapter alone is trained, exported and identified.

    Args:
        policy: Of `folder`; its model has the adapter.
        config: Of the policy, with `lora`.
        folder: The base. A checksum of its weights is part of the identity; the
            exported adapter is told its name without folders, which may name people.
        section: Of the config.

    Raises:
        ValueError: A target lies in a vision tower that is frozen.
    """
    targets = find_targets(config)
    if policy.identity["freeze_vision"]:
        if any(target.path.startswith("vision/") for target in targets):
            raise ValueError(
                "policy.freeze_vision=True lets nothing learn in the vision tower, and "
                "policy.lora.targets names matrices of it (those behind visual.): "
                "leave out one of the two"
            )
    about = {
        **{"rank": section.rank, "alpha": section.alpha},
        **{"targets": list(section.targets), "base": weights_digest(folder)},
    }
    return policy._replace(
        identity={**policy.identity, "lora": about},
        adapted=Adapted(
            save=partial(_save, config, folder.resolve().name),
            merge=partial(merge_lora, config),
            merged=section.merged,
            words=f"a LoRA of rank {section.rank} and alpha {section.alpha:g} on "
            f"{', '.join(section.targets)}",
        ),
    )


def _save(config: Qwen25VLConfig, base: str, out: Path, params: Params) -> None:
    adapter, _ = split_lora(params)
    save_lora(out, config, adapter, base=base)

"""A run that trains an adapter, from the command line: resume, export, evaluate."""

import shutil

import numpy as np
import pytest

from tests.test_run import (  # noqa: F401
    assert_one_message,
    cache,
    final,
    forks,
    rows,
    run,
)

pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")
CONFIG, STEPS = "configs/medloc.py:smoke,model=tiny", 4
LORA = (
    *("--config.policy.lora.rank=4", "--config.policy.lora.alpha=8"),
    "--config.policy.lora.targets=q_proj,v_proj,mlp.up_proj",
)
MORE = ("--config.train.grpo.loss.beta=0.04", "--config.checkpoint.every=2")


def answers(folder):
    found = {}
    for path in folder.glob("grpo/eval/*/answers.jsonl"):
        found[int(path.parent.name)] = rows(path)
    return found


@pytest.mark.slow
def test_an_adapter_from_training_to_its_merged_policy(run, tmp_path):  # noqa: F811
    options = (*LORA, *MORE)
    whole, again = tmp_path / "a", tmp_path / "b"
    done = run(f"--workdir={whole}", *options, config=CONFIG)
    assert done.code == 0, done.err
    stored = final(whole, STEPS)
    names = [name for name in stored if name.startswith("params.")]
    assert len(names) == 6  # A and B of three kernels, and nothing of the base
    assert all(name.endswith(("lora_a", "lora_b")) for name in names)

    shutil.copytree(whole, again)
    shutil.rmtree(again / "grpo/checkpoints" / str(STEPS))
    done = run(f"--workdir={again}", *options, config=CONFIG)
    assert done.code == 0, done.err
    assert "resumed from step 2" in done.err
    found = final(again, STEPS)
    assert found.keys() == stored.keys()
    for name, values in stored.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)

    done = run(f"--workdir={whole}", "--mode=export", *options, config=CONFIG)
    assert done.code == 0, done.err
    trained = answers(whole)[STEPS]
    for name, lora in (("with", LORA), ("without", ())):
        folder = f"--checkpoint={whole}/policy"
        done = run(
            *(f"--workdir={tmp_path / name}", "--mode=eval", folder),
            *(*MORE, *lora),
            config=CONFIG,
        )
        assert done.code == 0, done.err
        assert answers(tmp_path / name)[0] == trained

    folder = f"--checkpoint={whole}"
    done = run(
        f"--workdir={tmp_path / 'c'}", "--mode=eval", folder, *MORE, config=CONFIG
    )
    assert_one_message(done, "holds an adapter alone", "--config.policy.lora.rank=4")
    done = run(
        *(f"--workdir={tmp_path / 'd'}", "--mode=eval", folder),
        *(*MORE, *LORA, "--config.policy.lora.rank=2"),
        config=CONFIG,
    )
    assert_one_message(done, "another form", "rank 4, here 2")

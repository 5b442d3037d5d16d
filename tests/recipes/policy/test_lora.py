"""An adapter by the config: what it is called, exported, and refused."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from medjax.data.pretraining.shipped import shipped_policy
from medjax.models.qwen25vl import flatten_params, load_qwen25vl
from medjax.recipes import medloc, pretrain
from medjax.recipes.policy.alike import check_adapter
from medjax.recipes.policy.opening import open_policy, section_for_use
from medjax.recipes.policy.scoring import write_evaluation
from medjax.runtime import checkpoint
from medjax.runtime.adapted import held
from medjax.runtime.errors import CheckpointError
from medjax.runtime.stages import read_state
from medjax.runtime.writer import write_manifest
from medjax.types import TrainState
from tests.recipes import smoke

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
    pytest.mark.usefixtures("own_cache"),
]
RANK, ALPHA, TARGETS = 4, 8.0, ("q_proj", "mlp.down_proj", "visual.qkv")
LORA = {
    "policy__lora__rank": RANK,
    "policy__lora__alpha": ALPHA,
    "policy__lora__targets": TARGETS,
}
WHERE = {"seed": 0}


def sections(**changes):
    return smoke.sections("model=tiny", **(LORA | changes))


def last_stage(workdir, found):
    return medloc.stages(seed=0, workdir=workdir, **found)[-1]


def leave(stage, workdir, found):
    """What a stage leaves after four steps, its adapter random: nothing is computed."""
    shapes = jax.eval_shape(stage.system.init, jax.random.key(0))
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / 8, x.dtype), shapes.params
    )
    state = TrainState(params, (), jnp.asarray(4, jnp.int32))
    folder = workdir / stage.name
    with checkpoint.open_checkpoints(folder / "checkpoints", keep=1) as manager:
        checkpoint.save(
            manager,
            4,
            held(stage.system, state),
            root=jax.random.key(0),
            position="{}",
            identity={**stage.identity, "seed": 0},
            counters={},
        )
    write_manifest(folder, stage=stage.name, config=found)
    write_evaluation(folder / "eval" / "4", [], [], printed=0)
    return params


@pytest.fixture(scope="module")
def run(tmp_path_factory, devices):
    """A workdir after its export, the stage's random parameters, and its sections."""
    workdir = tmp_path_factory.mktemp("run")
    found = sections()
    stage = last_stage(workdir, found)
    params = leave(stage, workdir, found)
    assert medloc.export(seed=0, workdir=workdir, **found, **devices) == []
    return workdir, params, found


def test_the_identity_names_the_adapter_and_its_base(tmp_path):
    plain = smoke.sections("model=tiny")
    without = last_stage(tmp_path, plain)
    assert "lora" not in without.identity["policy"]
    assert without.system.adapter is None and without.base is None
    first, *_, last = medloc.stages(seed=0, workdir=tmp_path, **sections())
    about = last.identity["policy"]["lora"]
    assert len(about["base"]) == 64
    assert (about["rank"], about["alpha"]) == (RANK, ALPHA)
    assert first.start is None and first.base is not None and last.base is not None
    rest = {k: x for k, x in last.identity["policy"].items() if k != "lora"}
    assert rest == without.identity["policy"]
    json.dumps(last.identity)


def test_the_export_holds_the_adapter_and_the_merged_policy(run):
    workdir, params, _ = run
    base = shipped_policy()
    _, merged = load_qwen25vl(workdir / "policy")
    _, expected = load_qwen25vl(base, adapter=workdir / "adapter")
    _, plain = load_qwen25vl(base)
    merged, expected, plain = map(flatten_params, (merged, expected, plain))
    changed = set()
    for name, values in merged.items():
        # one sum of products in another order, of numbers near 1
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-5)
        if np.any(np.asarray(values) != np.asarray(plain[name])):
            changed.add(name)
    assert changed == {
        "text/layers/attention/q/kernel",
        "text/layers/mlp/down/kernel",
        "vision/blocks/attention/qkv/kernel",
    }
    tensors = load_file(workdir / "adapter" / "adapter_model.safetensors")
    name = "base_model.model.model.language_model.layers.1.mlp.down_proj.lora_A.weight"
    down = flatten_params(params)["text/layers/mlp/down/lora_a"]
    np.testing.assert_array_equal(tensors[name], down[1].T)
    content = json.loads((workdir / "adapter" / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == base.name  # no folders
    assert "a LoRA of rank 4 and alpha 8" in (workdir / "policy/README.md").read_text()


def test_an_export_of_the_adapter_alone(run, devices, tmp_path):
    workdir, _, _ = run
    shutil.copytree(workdir / "grpo", tmp_path / "grpo")
    found = sections(policy__lora__merged=False)
    options = {"seed": 0, "workdir": tmp_path, **found, **devices}
    assert medloc.export(**options) == []
    assert (tmp_path / "adapter").is_dir() and not (tmp_path / "policy").exists()
    with pytest.raises(FileExistsError, match="adapter is there, from an earlier"):
        medloc.export(**options)


def test_a_merge_in_half_precision_says_what_it_may_lose(devices, tmp_path, capsys):
    found = sections(policy__param_dtype="bfloat16")
    leave(last_stage(tmp_path, found), tmp_path, found)
    medloc.export(seed=0, workdir=tmp_path, **found, **devices)
    said = capsys.readouterr().out
    assert "policy: merged in bfloat16, in which less than 1/512 of a weight" in said
    assert "load_qwen25vl(BASE, adapter=ADAPTER) merges it in float32" in said


def test_a_checkpoint_is_read_onto_its_base(run, devices):
    workdir, params, found = run
    stage = last_stage(workdir, found)
    state = read_state(
        stage.system,
        workdir,
        name=stage.name,
        accepts=stage.accepts,
        load=None,
        base=stage.base,
        **devices,
    )
    low, rest = stage.system.adapter.split(state.params)
    expected, _ = stage.system.adapter.split(params)
    jax.tree.map(np.testing.assert_array_equal, low, expected)
    _, plain = load_qwen25vl(shipped_policy())
    jax.tree.map(np.testing.assert_array_equal, rest, plain)


def other_base(tmp_path):
    """The shipped policy, one number of it changed and its seal taken off."""
    from safetensors.numpy import save_file

    folder = tmp_path / "other"
    shutil.copytree(shipped_policy(), folder)
    (folder / "medjax.json").unlink()
    file = folder / "model.safetensors"
    tensors = dict(load_file(file))
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def test_another_base_is_refused_by_name(run, devices, tmp_path):
    workdir, _, found = run
    other = sections(policy__path=str(other_base(tmp_path)), data__ramps=True)
    stage = last_stage(workdir, other)
    stored = checkpoint.stored_identity(workdir / "grpo" / "checkpoints")
    with pytest.raises(ValueError, match="made for another base: weights with sha256"):
        check_adapter(stage.identity["policy"], stored)
    with pytest.raises(CheckpointError, match=r"policy.lora.base: the checkpoint has"):
        medloc.export(
            seed=0,
            workdir=workdir / "again",
            checkpoint=str(workdir / "grpo"),
            **other,
            **devices,
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 2}, "another form: rank 4, here 2: --config.policy.lora.rank=4"),
        ({"alpha": 1.0}, "another form: alpha 8.0, here 1.0"),
        ({"targets": ["q_proj"]}, r"another form: targets \['q_proj', 'mlp"),
        (None, "holds an adapter alone, and this config has none: --config.policy"),
    ],
)
def test_an_adapter_of_another_form_is_refused(run, changes, message):
    workdir, _, _ = run
    stored = checkpoint.stored_identity(workdir / "grpo" / "checkpoints")
    ours = dict(stored["policy"])
    lora = ours.pop("lora")
    if changes is not None:
        ours["lora"] = lora | changes
    with pytest.raises(ValueError, match=message):
        check_adapter(ours, stored)


def test_a_whole_checkpoint_is_no_adapter(run):
    workdir, _, found = run
    plain = last_stage(workdir, smoke.sections("model=tiny")).identity
    stage = last_stage(workdir, found)
    with pytest.raises(ValueError, match=r"holds a whole policy.*lora.rank=None; or"):
        stage.accepts(plain)
    check_adapter(stage.identity["policy"], {"tokenizer": "of a folder"})
    stage.accepts(stage.identity)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy__lora__rank": 0}, "lora.rank is 0: expected a whole number"),
        (
            {"policy__lora__targets": ("qproj",)},
            r"1 of 1 name no matrix.*\n  'qproj': did you mean q_proj",
        ),
        ({"policy__freeze_vision": True}, "freeze_vision=True lets nothing learn"),
        ({"policy__path": ""}, "the policy's weights are drawn: an adapter is of a"),
        ({"policy__lora__rnk": 2}, 'section "policy.lora": no option "rnk"'),
    ],
)
def test_what_makes_no_adapter_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        open_policy(sections(**changes)["policy"]).finish((), (), style=None)


def test_a_folder_in_use_is_a_whole_policy(run):
    workdir, _, found = run
    section = section_for_use(found["policy"], workdir / "policy")
    assert section["lora"]["rank"] is None
    assert section["path"] == str(workdir / "policy")


def test_pretraining_has_no_adapter(tmp_path):
    from configs.pretrain import get_config

    config = get_config()
    with config.ignore_type():
        config.policy.path = str(shipped_policy())
        config.policy.lora.rank = 4
    found = config.to_dict()
    found = {k: found[k] for k in found if k not in smoke.LOOP}
    with pytest.raises(ValueError, match="set policy.lora.rank=None"):
        pretrain.stages(seed=0, workdir=tmp_path, **found)

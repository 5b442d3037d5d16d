"""Stages are planned one after the other, and what does not fit ends the run."""

import json
import math
from functools import partial

import jax
import pytest

from medjax.models.qwen25vl import init_params
from medjax.recipes.planning import (
    _state_bytes,
    branch_share,
    plan_stages,
    rollout_cache,
)
from medjax.recipes.policy.qwen25vl import Vision
from medjax.runtime.program import abstract_state
from medjax.runtime.stages import Stage
from medjax.sharding import make_mesh
from tests.recipes.policy import hub
from tests.runtime import toy_system as toy
from tests.runtime.test_adapter import make_system
from tests.tiny import tiny_batch, tiny_config, tiny_model

SIZES = ("vocab", "width", "mlp", "layers", "heads", "kv_heads", "head_dim")

POLICY = {"remat": "none", "logit_chunk": None, "param_dtype": "float32"}
CONFIG = {
    "policy": POLICY | {"freeze_vision": False, "width": 3},
    "checkpoint": {"on_nonfinite": "stop"},
}


def stages(width):
    return [
        Stage(
            name=name,
            system=toy.build(width=width),
            source=toy.source(),
            steps=3,
            identity={},
            tokens=100,
            doubts=("strange data",) if name == "one" else (),
        )
        for name in ("one", "two")
    ]


def plan(chain, folder, *, price=2.0, **sizes):
    return plan_stages(
        chain,
        topology="gpu:8",
        price=price,
        config=CONFIG,
        workdir=folder,
        mesh=make_mesh(sizes or toy.MESH, jax.devices()),
        rules=toy.RULES,
    )


def test_each_stage_has_its_row(tmp_path, capsys):
    assert plan(stages(8), tmp_path / "new") == ["strange data"]
    content = json.loads((tmp_path / "new" / "plan.json").read_text())
    one, two = content["stages"]
    assert (one["stage"], two["stage"]) == ("one", "two")
    assert one["fits"] and one["mesh"] == toy.MESH and one["chips"] == 8
    assert one["contexts_a_chip"] == 1  # 8 rows
    assert one["tokens_a_step_most"] == 100
    assert one["price_of_1000_steps_least"] > 0
    assert content["versions"]["jax"] == jax.__version__
    assert "one on gpu:8: 8 h100 chips" in capsys.readouterr().out


def test_what_does_not_fit_is_written_and_refused_with_what_would_help(tmp_path):
    # a kernel [4, width], its gradient and two moments take 64 GB, those of the bias
    # 16; a chip has 80, and there are copies. Over fsdp, of which 8 do not divide the
    # 4 rows, the kernels take a fourth
    width = 10**9
    with pytest.raises(ValueError, match="does not fit") as error:
        plan(stages(width), tmp_path, data=8, fsdp=1, model=1)
    text = str(error.value)
    wider = f"--config.mesh.data=2 --config.mesh.fsdp=4 saves {48e9 / 2**30:.2f} GiB"
    assert f"{wider} a chip: enough by itself" in text
    assert "param_dtype=bfloat16 (coarser updates) saves 37.25 GiB a chip" in text
    assert "remat=full" in text and "logit_chunk=32" in text
    rows = json.loads((tmp_path / "plan.json").read_text())["stages"]
    assert [row["fits"] for row in rows] == [False, False]
    assert all(row["needed_bytes"] > 80e9 for row in rows)


def test_a_part_of_the_mesh_may_take_its_pictures_in_turn(tmp_path):
    chain = [stages(10**9)[0]._replace(source=toy.source(lengths=(16,)))]
    with pytest.raises(ValueError, match="does not fit") as error:
        plan(chain, tmp_path, data=8, fsdp=1, model=1)
    assert "train.grpo.accumulate=2" in str(error.value)


def test_the_state_of_an_adapter_has_its_gradient_alone():
    """4 bytes each: 32 of the kernel, 8 of the bias with gradient and two moments."""
    system = make_system()
    mesh = make_mesh(toy.ONE, jax.devices()[:1])
    placed, _ = abstract_state(system, mesh=mesh, rules=toy.RULES)
    stage = stages(8)[0]._replace(system=system)
    assert _state_bytes(stage, placed) == 4 * (32 + 4 * 8) + 4  # and a counter
    everything = make_system(adapter=False)
    placed, _ = abstract_state(everything, mesh=mesh, rules=toy.RULES)
    stage = stage._replace(system=everything)
    assert _state_bytes(stage, placed) == 4 * 4 * (32 + 8) + 4


def test_a_price_is_not_negative(tmp_path):
    with pytest.raises(ValueError, match="--price=-1"):
        plan(stages(8), tmp_path, price=-1.0)
    assert not (tmp_path / "plan.json").exists()


@pytest.mark.parametrize(
    ("name", "share"),
    [
        (
            "jit(f)/learner/jvp(VisionTower)/while/body/blocks/cond/branch_1_fun/dot",
            1 / 8,
        ),
        ("jit(f)/VisionTower/while/body/blocks/cond/branch_0_fun/dot", 7 / 8),
        ("jit(f)/rollout/decode/while/body/cond/branch_1_fun/dot", 1),
        ("", 1),
    ],
)
def test_blocks_of_the_vision_tower_attend_widely_as_often_as_the_policy_says(
    name, share
):
    policy = {"vision": {"full_blocks": [7, 15, 23, 31], "depth": 32}}
    assert branch_share({"policy": policy}, name) == share
    assert branch_share({}, name) == 1


@pytest.mark.parametrize("sizes", [{"data": 1}, {"data": 2, "model": 2}], ids=str)
def test_caches_are_those_that_the_policy_makes(sizes):
    """By the model's own shapes, for prompts; 3 answers of 7 tokens to each."""
    batch, answers = tiny_batch(contexts=4, questions=2), 4 * 2 * 3 * 7
    config = tiny_config()
    params = jax.eval_shape(partial(init_params, config), jax.random.key(0))
    prefilled = jax.eval_shape(tiny_model().prefill, params, batch.prompt)
    caches = (prefilled.context, prefilled.question)
    made = sum(x.size * x.dtype.itemsize for c in caches for x in (c.keys, c.values))
    keys = prefilled.question.keys  # layers, rows, tokens, heads, numbers
    made += 2 * answers * keys.size // math.prod(keys.shape[1:3]) * keys.dtype.itemsize
    section = {name: getattr(config, name) for name in (*SIZES, "tied", "dtype")}
    vision = {name: getattr(config.vision, name) for name in Vision._fields}
    rules = {"batch": ("data",), "kv_heads": ("model",), "heads": ("model",)}
    rules |= {"vision_heads": (), "vision_mlp": ()}
    policy = {**hub.SECTION, **section, "vision": vision, "rollout_rules": rules}
    mesh = make_mesh(sizes, jax.devices()[: math.prod(sizes.values())])
    found = rollout_cache(policy, batch.prompt, answers, mesh=mesh, rules={})
    assert found == made / math.prod(sizes.values())

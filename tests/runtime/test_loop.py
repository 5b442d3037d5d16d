import json
import os
import pathlib
import signal
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from medjax.runtime import checkpoint
from medjax.runtime.errors import NonFiniteStep
from medjax.runtime.loop import evaluate, train
from medjax.runtime.naming import named
from medjax.sharding import make_mesh
from tests.runtime import toy_system as toy

REPO = pathlib.Path(__file__).resolve().parents[2]
COMPILE = "/jax/core/compile/backend_compile_duration"


def run(workdir, *, system=None, source=None, devices=1, **options):
    mesh = (
        make_mesh(toy.MESH) if devices == 8 else make_mesh(toy.ONE, jax.devices()[:1])
    )
    options = {"steps": 6, "checkpoint_every": 4, "keep": 2, "seed": 0} | options
    return train(
        system or toy.build(),
        source or toy.source(),
        mesh=mesh,
        rules=toy.RULES,
        workdir=workdir,
        identity={"config": {"optim": {"learning_rate": 0.1}}, "data": "abc"},
        **options,
    )


class Watched:
    """Batches of two shapes; `look` is called before each is drawn."""

    def __init__(self, look):
        self.look, self.inner = look, iter(toy.source(lengths=(8, 16)))
        self.get_state, self.set_state = self.inner.get_state, self.inner.set_state

    def __iter__(self):
        return self

    def __next__(self):
        self.look()
        return next(self.inner)


def rows(workdir, name="metrics"):
    path = pathlib.Path(workdir) / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same(left, right):
    chex.assert_trees_all_equal(named(left), named(right), strict=True)


def test_a_stopped_run_goes_on_bitwise(tmp_path):
    whole = run(tmp_path / "whole")
    for steps in (2, 5, 6):
        parts = run(tmp_path / "parts", steps=steps)
    assert_same(whole, parts)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert [row["step"] for row in rows(tmp_path / "parts")] == [1, 2, 3, 4, 5, 6]


def test_eight_devices_equal_one(tmp_path):
    one, eight = run(tmp_path / "1"), run(tmp_path / "8", devices=8)
    kernel = eight.params["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec("fsdp", "model")
    assert eight.opt_state[0].mu["kernel"].sharding == kernel.sharding
    # float32 sums in another order
    chex.assert_trees_all_close(named(eight), named(one), rtol=1e-7, atol=1e-5)


def test_resume_on_other_devices(tmp_path):
    whole = run(tmp_path / "whole", devices=8)
    run(tmp_path / "parts", steps=3, devices=1)
    parts = run(tmp_path / "parts", devices=8)
    assert parts.params["kernel"].sharding == whole.params["kernel"].sharding
    chex.assert_trees_all_close(named(parts), named(whole), rtol=1e-7, atol=1e-5)


def test_a_step_uses_fold_in_of_its_number(tmp_path):
    keys = []

    def update(state, batch, key):
        jax.debug.callback(lambda x: keys.append(x.tolist()), jax.random.key_data(key))
        return toy.build().update(state, batch, key)

    run(tmp_path, system=toy.build()._replace(update=update), steps=3, name="stage")
    jax.effects_barrier()
    import zlib

    root = jax.random.fold_in(jax.random.key(0), zlib.crc32(b"stage"))
    expected = [jax.random.fold_in(root, step) for step in range(3)]
    assert keys == [jax.random.key_data(key).tolist() for key in expected]


def test_each_shape_compiles_once_and_later_steps_never(tmp_path, capsys):
    compiled, seen = [], []
    listen = lambda event, *_, **__: compiled.append(event)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)

    try:
        run(
            tmp_path,
            source=Watched(lambda: seen.append(compiled.count(COMPILE))),
            steps=9,
            checkpoint_every=2,
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    # batch i is fetched after step i - 1; both shapes and a save are behind batch 3
    assert seen[1] > seen[0]
    assert len(set(seen[3:])) == 1
    log = capsys.readouterr().err
    done = [x for x in log.splitlines() if "compiling" in x and "took" in x]
    assert len(done) == 2  # a slow one says how far it is between begun and done
    assert "batch shape 2: 16x4, 16" in log


def test_the_split_step_gives_the_same_numbers(tmp_path):
    whole = run(tmp_path / "whole", devices=8)
    split = run(tmp_path / "split", devices=8, system=toy.build(split=True))
    assert_same(whole, split)


@pytest.mark.parametrize("split", [False, True])
def test_no_step_transfers_implicitly(tmp_path, split):
    guarded = []

    def look():  # from the first batch on: steps, prepare, saves, metrics, evaluation
        if not guarded:
            guarded.append(jax.config.jax_transfer_guard)
            jax.config.update("jax_transfer_guard", "disallow")

    try:
        run(
            tmp_path,
            source=Watched(look),
            devices=8,
            system=toy.build(split=split),
            evaluate=lambda state: {"step": jax.device_get(state.step)},
            evaluate_every=3,
        )
    finally:
        jax.config.update("jax_transfer_guard", guarded[0])


def test_a_non_finite_step_stops(tmp_path):
    with pytest.raises(NonFiniteStep, match=r"step 4 is not finite \(.*loss.*step 3"):
        run(tmp_path, system=toy.build(nan_at=3), checkpoint_every=3)
    assert np.isnan(rows(tmp_path)[-1]["loss"])
    # what was saved is whole
    state = run(tmp_path, steps=3, checkpoint_every=3)
    assert np.isfinite(state.params["kernel"]).all()


@pytest.mark.parametrize("devices", [1, 8])
def test_a_non_finite_step_is_skipped_and_counted(tmp_path, devices):
    system = toy.build(nan_at=3)
    # "skip" in both: another program may round differently
    options = {"system": system, "devices": devices, "on_nonfinite": "skip"}
    before = run(tmp_path / "a", steps=3, **options)
    after = run(tmp_path / "b", steps=4, **options)
    assert int(after.step) == 4
    assert_same(before._replace(step=after.step), after)
    run(tmp_path / "b", **options)
    flags = [(row["nonfinite"], row["skipped"]) for row in rows(tmp_path / "b")]
    assert flags == [(0, 0)] * 3 + [(1, 1)] + [(0, 1)] * 2


def test_skipping_everything_stops_at_last(tmp_path):
    system = toy.build()

    def update(state, batch, key):
        new, metrics = system.update(state, batch, key)
        return new, metrics | {"loss": jnp.float32(jnp.inf)}

    with pytest.raises(NonFiniteStep, match="20 such steps"):
        run(
            tmp_path,
            system=system._replace(update=update),
            steps=99,
            on_nonfinite="skip",
        )


def test_a_parameter_alone_may_be_what_is_broken(tmp_path):
    system = toy.build()

    def update(state, batch, key):
        new, metrics = system.update(state, batch, key)
        bias = new.params["bias"].at[0].set(jnp.nan)
        return new._replace(params=new.params | {"bias": bias}), metrics

    with pytest.raises(NonFiniteStep, match="a parameter"):
        run(tmp_path, system=system._replace(update=update))


def test_data_that_ends_too_soon(tmp_path):
    import grain

    source = toy.source()
    short = [batch for batch, _ in zip(source, range(3), strict=False)]
    source = grain.MapDataset.source(short).to_iter_dataset()
    with pytest.raises(ValueError, match="ended after 3 batches, 6 steps"):
        run(tmp_path, source=source)


def test_start_parameters(tmp_path):
    start = {
        "kernel": np.full((4, 8), 2, np.float32),
        "bias": np.zeros(8, np.float32),
    }
    calls = []

    def load(shardings):
        calls.append(shardings["kernel"].spec)
        return start

    system = toy.build(learning_rate=0.0)
    state = run(tmp_path, system=system, start=load, steps=2, devices=8)
    np.testing.assert_array_equal(state.params["kernel"], start["kernel"])
    run(tmp_path, system=system, start=load, steps=3, devices=8)
    # a resumed run has its own
    assert calls == [jax.sharding.PartitionSpec("fsdp", "model")]
    wrong = start | {"kernel": np.zeros((4, 9), np.float32)}
    with pytest.raises(ValueError, match=r"params.kernel: found float32\[4, 9\]"):
        run(tmp_path / "wrong", start=wrong)


def test_evaluations_are_written_and_one_missed_is_made_up(tmp_path):
    def evaluation(state):
        return {"mean": state.params["bias"].mean(), "at": int(state.step)}

    options = {"evaluate": evaluation, "evaluate_every": 2}
    run(tmp_path / "whole", **options)
    assert [row["step"] for row in rows(tmp_path / "whole", "eval")] == [2, 4, 6]

    def killed(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", **options | {"evaluate": killed}, checkpoint_every=2)
    run(tmp_path / "parts", **options, checkpoint_every=2)
    assert rows(tmp_path / "parts", "eval") == rows(tmp_path / "whole", "eval")
    first = options | {"evaluate_first": True}
    for _ in range(2):
        run(tmp_path / "first", **first)
        found = [row["step"] for row in rows(tmp_path / "first", "eval")]
        assert found == [0, 2, 4, 6]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "end", evaluate=killed)
    run(tmp_path / "end", evaluate=evaluation)
    assert [row["step"] for row in rows(tmp_path / "end", "eval")] == [6]


def test_evaluate_passes_records_through(tmp_path):
    system = toy.build()
    state = run(tmp_path, system=system, devices=8)
    batches = iter(toy.source(lengths=(8, 16)))
    held_out = [(next(batches), f"record {i}") for i in range(4)]
    kernel, bias = (np.asarray(state.params[n], np.float64) for n in ("kernel", "bias"))
    results = list(
        evaluate(
            system, state, held_out, mesh=make_mesh(toy.MESH), rules=toy.RULES, seed=0
        )
    )
    for (batch, record), (out, metrics, got) in zip(held_out, results, strict=True):
        expected = (batch["x"] @ kernel + bias).mean(1)
        np.testing.assert_allclose(out["out"], expected, atol=1e-5)
        np.testing.assert_allclose(
            metrics["error"], abs(expected - batch["y"]), atol=1e-5
        )
        assert got == record


# Runs in processes of their own, to be killed. One process imports everything, then
# forks for each run, before jax has started a backend.

RUNS = """
import json, os, signal, sys
sys.path.insert(0, {repo!r})
import jax, numpy as np
from tests.runtime import toy_system as toy
from medjax.runtime.loop import train
from medjax.runtime import checkpoint
from medjax.sharding import make_mesh

class Source:
    # signals the process while batch `at` is fetched
    def __init__(self, number, at):
        self.number, self.at = number, at
    def __iter__(self):
        self.inner, self.index = iter(toy.source()), 0
        return self
    def __next__(self):
        if self.index == self.at:
            os.kill(os.getpid(), self.number)
        self.index += 1
        return next(self.inner)
    def get_state(self):
        return {{"inner": self.inner.get_state(), "index": self.index}}
    def set_state(self, state):
        self.inner.set_state(state["inner"])
        self.index = state["index"]

def run(workdir, number, at):
    if number < 0:  # killed while the checkpoint of step `at` is written
        save = checkpoint.save
        def save_and_die(manager, step, *args, **kwargs):
            save(manager, step, *args, **kwargs)
            if step == at:
                os.kill(os.getpid(), -number)
        checkpoint.save = save_and_die
    source = Source(number, at if number > 0 else -1)
    train(toy.build(), source, mesh=make_mesh({{"data": 2, "fsdp": 1,
          "model": 1}}), rules=toy.RULES, steps=12, seed=0, workdir=workdir,
          checkpoint_every=3, keep=2, identity={{"a": 1}})

for arguments in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        run(*arguments)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def run_apart(*runs):
    """Exit codes of runs (workdir, signal, batch), one after another, and the log."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    arguments = json.dumps([(str(workdir), *rest) for workdir, *rest in runs])
    done = subprocess.run(
        [sys.executable, "-c", RUNS.format(repo=str(REPO)), arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()], done.stderr


def final(workdir):
    """Every array of the last checkpoint, by name."""
    with checkpoint.open_checkpoints(workdir / "checkpoints", keep=2) as manager:
        return manager.restore(
            12, args=ocp.args.Composite(state=ocp.args.PyTreeRestore())
        )["state"]


@pytest.mark.filterwarnings("ignore:Sharding info not provided")  # orbax: one host
def test_killed_again_and_again_equals_the_unbroken_run(tmp_path):
    whole, parts, kill = tmp_path / "whole", tmp_path / "parts", signal.SIGKILL
    codes, log = run_apart(
        (whole, kill, -1),
        (parts, kill, 2),  # before any checkpoint
        (parts, -kill, 6),  # inside a save
        (parts, kill, 11),  # between checkpoints
        (parts, kill, -1),
    )
    assert codes == [0, -kill, -kill, -kill, 0], log
    assert log.count("resumed from step") >= 2
    left, right = final(whole), final(parts)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    assert rows(whole) == rows(parts)


def test_a_signal_saves_the_step_and_exits(tmp_path):
    signals = (signal.SIGTERM, signal.SIGINT)
    codes, log = run_apart(*((tmp_path / str(n), n, 5) for n in signals))
    assert codes == [128 + number for number in signals], log
    assert "Traceback" not in log
    for number in signals:
        assert f"{number.name}: stopped after step 5, which is saved" in log
        folder = tmp_path / str(number)
        assert [row["step"] for row in rows(folder)] == [1, 2, 3, 4, 5]
        assert (folder / "checkpoints" / "5").is_dir()

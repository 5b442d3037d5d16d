import contextlib
import gc
import json
import resource
import shutil
import time
import types
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.runtime import checkpoint
from medjax.runtime.errors import CheckpointError
from medjax.runtime.naming import ArchitectureError, named
from medjax.types import TrainState

IDENTITY = {"config": {"optim": {"rate": 0.1}, "sizes": (1, 2)}, "data": "sha-a"}


class Moments(NamedTuple):
    count: jax.Array
    mu: dict


def make_state(*, width=4, seed=0):
    key = jax.random.key(seed)
    params = {"layer": [{"kernel": jax.random.normal(key, (3, width), jnp.float32)}]}
    moments = Moments(jnp.ones((), jnp.int32), jax.tree.map(jnp.zeros_like, params))
    aux = {"key": jax.random.split(key, 2), "bf16": jnp.arange(3, dtype=jnp.bfloat16)}
    return TrainState(params, (moments, ()), jnp.array(5, jnp.int32), aux)


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def save(manager, step, state, **changes):
    options = {
        "root": jax.random.key(9),
        "position": json.dumps({"next_index": step}),
        "identity": IDENTITY,
        "counters": {"skipped": 2},
    }
    checkpoint.save(manager, step, state, **options | changes)


@pytest.fixture
def saved(tmp_path):
    with checkpoint.open_checkpoints(tmp_path, keep=2) as manager:
        save(manager, 5, make_state())
    return tmp_path


def restore(folder, state, identity=IDENTITY):
    with checkpoint.open_checkpoints(folder, keep=2) as manager:
        return checkpoint.restore(
            manager, abstract(state), root=jax.random.key(0), identity=identity
        )


def test_round_trip_is_bitwise_and_keeps_structure(saved):
    state = make_state()
    found = restore(saved, state)
    assert jax.tree.structure(found.state) == jax.tree.structure(state)
    chex.assert_trees_all_equal(named(found.state), named(state), strict=True)
    assert found.state.aux["key"].dtype == state.aux["key"].dtype
    assert (found.root == jax.random.key(9)).all()
    assert found.position == {"next_index": 5}
    assert (found.step, found.counters) == (5, {"skipped": 2})


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path, make_state()) is None
    assert checkpoint.newest(tmp_path / "none", identity={}) is None
    with pytest.raises(FileNotFoundError, match="no folder of checkpoints at"):
        checkpoint.restore_params(tmp_path / "none", {})
    with pytest.raises(FileNotFoundError, match="no finished checkpoint in"):
        checkpoint.restore_params(tmp_path, {})


def test_saving_is_not_disturbed_by_donation(tmp_path):
    """The write goes on while later steps reuse the donated memory."""
    bump = jax.jit(lambda x: x + 1, donate_argnums=0)
    state = TrainState(jnp.zeros((1 << 22,), jnp.float32), (), jnp.int32(0))
    with checkpoint.open_checkpoints(tmp_path, keep=3) as manager:
        for step in range(1, 7):
            state = state._replace(params=bump(state.params))
            save(manager, step, state)
            for _ in range(3):
                state = state._replace(params=bump(state.params))
    with checkpoint.open_checkpoints(tmp_path, keep=3) as manager:
        assert sorted(manager.all_steps()) == [4, 5, 6]
    params = checkpoint.restore_params(tmp_path, abstract(state).params)
    np.testing.assert_array_equal(params, np.full(1 << 22, 5 * 4 + 1, np.float32))


def test_restore_to_another_sharding(saved):
    mesh = jax.make_mesh((2, 4), ("a", "b"), (jax.sharding.AxisType.Auto,) * 2)
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "b"))
    like = abstract(make_state()).params
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), like
    )
    params = checkpoint.restore_params(saved, like)
    assert params["layer"][0]["kernel"].sharding == place
    np.testing.assert_array_equal(
        params["layer"][0]["kernel"], make_state().params["layer"][0]["kernel"]
    )


def test_changed_config_and_data_are_refused_by_name(saved):
    other = {"config": {"optim": {"rate": 0.2}, "sizes": (1, 2)}, "data": "sha-b"}
    with pytest.raises(CheckpointError) as error:
        restore(saved, make_state(), other)
    message = str(error.value)
    assert f"{saved}/5 belongs to another run" in message
    assert "config.optim.rate: the checkpoint has 0.1, this run has 0.2" in message
    assert "data: the checkpoint has 'sha-a', this run has 'sha-b'" in message
    assert "sizes" not in message
    more = IDENTITY | {"new": 1}
    with pytest.raises(CheckpointError, match="new: the checkpoint has 'nothing'"):
        checkpoint.newest(saved, identity=more)


def test_newest(saved):
    assert checkpoint.newest(saved, identity=IDENTITY) == (5, {"skipped": 2})


def test_another_architecture_is_refused_with_a_list(saved):
    wider = make_state(width=6)
    wider = wider._replace(params=wider.params | {"extra": jnp.zeros(2, jnp.float32)})
    with pytest.raises(ArchitectureError) as error:
        restore(saved, wider)
    message = str(error.value)
    assert "3 arrays differ" in message
    kernel = "params.layer.0.kernel: found float32[3, 4], expected float32[3, 6]"
    assert kernel in message
    assert "params.extra: found nothing, expected float32[2]" in message
    with pytest.raises(ArchitectureError, match=r"params\.other.*float16\[2\]"):
        checkpoint.restore_params(
            saved, {"other": jax.ShapeDtypeStruct((2,), jnp.float16)}
        )


def test_a_part_is_read_of_more_parameters_where_that_is_said(tmp_path):
    state = make_state()
    more = state._replace(params=state.params | {"extra": jnp.zeros(2, jnp.float32)})
    with checkpoint.open_checkpoints(tmp_path, keep=2) as manager:
        save(manager, 5, more)
    wanted = abstract(state).params
    with pytest.raises(ArchitectureError, match="expected nothing"):
        checkpoint.restore_params(tmp_path, wanted)
    found = checkpoint.restore_params(tmp_path, wanted, part=True)
    chex.assert_trees_all_equal(found, state.params)
    wanted["other"] = jax.ShapeDtypeStruct((2,), jnp.float32)
    with pytest.raises(ArchitectureError, match=r"params\.other: found nothing"):
        checkpoint.restore_params(tmp_path, wanted, part=True)


def test_other_number_of_processes(saved):
    path = saved / "5" / "about" / "metadata"
    about = json.loads(path.read_text())
    about["positions"] = [{"next_index": 5}, {"next_index": 5}]
    path.write_text(json.dumps(about))
    assert restore(saved, make_state()).position == {"next_index": 5}
    about["positions"] = [{"next_index": 5}, {"next_index": 6}]
    path.write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match="of 2 processes that differ; found 1"):
        restore(saved, make_state())


def collect_what_orbax_left(seconds=10):
    """Its reads and writes of other arrays go on in threads where one fails; they
    report themselves when they are collected, which is not to be in another test."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        gc.collect()
        coroutines = [x for x in gc.get_objects() if type(x) is types.CoroutineType]
        begun = [x for x in coroutines if x.cr_frame]
        if not any("orbax" in x.cr_code.co_filename for x in begun):
            return
        time.sleep(0.1)


# orbax leaves the reads of the other arrays where one fails
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("harm", ["missing", "cut short"])
def test_a_damaged_file_is_refused_or_was_not_needed(tmp_path, harm):
    """Each file in turn: never another state, and the way back is named."""
    state, folder, whole = make_state(), tmp_path / "checkpoints", tmp_path / "whole"
    with checkpoint.open_checkpoints(folder, keep=2) as manager:
        save(manager, 4, make_state(seed=1))
        save(manager, 5, state)
    shutil.copytree(folder, whole)
    files = [path for path in (folder / "5").rglob("*") if path.is_file()]
    refused = set()
    for path in files:
        data = path.read_bytes()
        path.unlink() if harm == "missing" else path.write_bytes(data[: len(data) // 2])
        try:
            found = restore(folder, state)
            chex.assert_trees_all_equal(named(found.state), named(state), strict=True)
        except CheckpointError as error:
            refused.add(path.relative_to(folder / "5").parts[:2])
            assert f"{folder}/5 cannot be read" in str(error)
            assert f"of step 4: to go on from there, move {folder}/5 away" in str(error)
            assert "tensorstore_spec" not in str(error)
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
    assert {("about", "metadata"), ("state", "d")} <= refused
    shutil.rmtree(folder / "5")  # as told
    assert restore(folder, state).step == 4
    collect_what_orbax_left()


def test_the_only_checkpoint_damaged_has_no_way_back(saved):
    (saved / "5" / "about" / "metadata").unlink()
    with pytest.raises(CheckpointError, match="none before it"):
        restore(saved, make_state())
    with pytest.raises(CheckpointError, match="none before it"):
        checkpoint.stored_identity(saved)


@contextlib.contextmanager
def file_size_limit(size):
    """A disk that is full after so many bytes of each file."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


# tensorstore's other writes fail after orbax has closed their event loop
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_full_disk_while_saving_leaves_the_others_whole(saved, capfd):
    big = make_state(width=1 << 16)
    before = sorted(p.name for p in saved.iterdir())
    with pytest.raises(CheckpointError) as error:
        with checkpoint.open_checkpoints(saved, keep=1) as manager:
            with file_size_limit(1 << 14):
                save(manager, 6, big)
                checkpoint.wait(manager)
    message = str(error.value)
    assert f"could not be written to {saved}" in message
    assert "Earlier checkpoints are whole (steps 5)" in message
    assert "Traceback" not in capfd.readouterr().err
    # Half-written folders are gone with the next start; writes of the failed save that
    # are still under way in this process may put them back once more.
    for _ in range(50):
        assert int(restore(saved, make_state()).state.step) == 5
        if sorted(p.name for p in saved.iterdir()) == before:
            break
        time.sleep(0.1)
    assert sorted(p.name for p in saved.iterdir()) == before
    collect_what_orbax_left()


def test_too_little_room_is_seen_before_writing(saved, monkeypatch):
    usage = shutil.disk_usage(saved)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with checkpoint.open_checkpoints(saved, keep=2) as manager:
        with pytest.raises(CheckpointError, match=r"step 6 .* GB needed, 0.00 GB free"):
            save(manager, 6, make_state())
        assert manager.all_steps() == [5]


def test_too_little_room_of_another_process_stops_this_one_too(saved, monkeypatch):
    """The other one says so; nobody is left waiting for its part of the checkpoint."""

    def gather(text):
        position, missing = json.loads(text)
        assert missing == ""
        return [text, json.dumps([position, "9.00 GB needed, 1.00 GB free"])]

    with checkpoint.open_checkpoints(saved, keep=2) as manager:
        monkeypatch.setattr(checkpoint, "gather_texts", gather)
        with pytest.raises(CheckpointError, match=r"step 6 .* 9.00 GB needed.*steps 5"):
            save(manager, 6, make_state())
        monkeypatch.setattr(checkpoint.jax, "process_count", lambda: 2)
        assert checkpoint._whole_steps(manager) == [5]
        monkeypatch.undo()
        assert manager.all_steps() == [5]

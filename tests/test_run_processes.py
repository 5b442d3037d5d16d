"""`run.py` as several processes on one machine, which meet over the loopback.

SLURM is its environment alone: nothing of it runs here.
"""

import json

import pytest

from tests.processes import finish, free_address, start

CONFIG = "--config=configs/medloc.py:smoke,python_reward={}:short"
REWARD = """
def short(completions, **columns):
    return [None if "2" in text else 1 / (1 + len(text)) for text in completions]
"""
STAGES = ("warm_start", "grpo")


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_flags(count):
    """The flags of each of `count` processes."""
    address = free_address()
    return [
        [f"--coordinator={address}", f"--num_processes={count}", f"--process_id={n}"]
        for n in range(count)
    ]


def by_slurm(count, rank, port):
    """What srun sets for one of `count` tasks on this machine."""
    return {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_TASKS_PER_NODE": str(count),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "JAX_COORDINATOR_PORT": port,
    }


def assert_same(found, expected):
    """Rows of metrics: sums of float32 in another order, over some hundred terms."""
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


@pytest.mark.slow
def test_two_tasks_of_slurm_train_as_one_process(tmp_path):
    reward = tmp_path / "mine.py"
    reward.write_text(REWARD)
    command = ["run.py", CONFIG.format(reward), "--compilation_cache="]
    codes, said = finish(start([[*command, f"--workdir={tmp_path}/1"]]), timeout=600)
    assert codes == [0], said
    port = free_address().rpartition(":")[2]
    running = [
        start([[*command, f"--workdir={tmp_path}/2"]], **by_slurm(2, rank, port))[0]
        for rank in (0, 1)
    ]
    codes, said = finish(running, timeout=600)
    assert codes == [0, 0], said
    for stage in STAGES:
        one, two = tmp_path / "1" / stage, tmp_path / "2" / stage
        for name in ("metrics.jsonl", "eval.jsonl"):
            assert_same(rows(two / name), rows(one / name))
        (start_of_two,) = json.loads((two / "manifest.json").read_text())
        assert start_of_two["devices"]["processes"] == 2
    rewards = [row["reward_short"] for row in rows(tmp_path / "2/grpo/metrics.jsonl")]
    assert len(rewards) == 4 and min(rewards) > 0


def test_a_task_that_srun_did_not_start_trains_nothing(tmp_path):
    environ = by_slurm(2, 0, "0")
    del environ["SLURM_STEP_NUM_TASKS"]
    command = ["run.py", "--config=configs/medloc.py:smoke", f"--workdir={tmp_path}/x"]
    (code,), ((out, err),) = finish(start([command], **environ))
    assert code == 1 and "srun" in err and "--num_processes=1" in err
    assert not (tmp_path / "x").exists() and len(err.splitlines()) == 1

"""The loop over several real processes: same numbers, one checkpoint for all."""

import json
import re
import signal
import socket
import time

import numpy as np
import pytest

from tests.processes import finish, free_address, start

pytestmark = pytest.mark.slow  # each process imports for seconds

MODULE = "tests.runtime.loop_process"


def run(workdir, count, steps, **options):
    """Train the toy system in `count` processes; exit codes and what they said."""
    return finish(begin(workdir, count, steps, **options))


def begin(workdir, count, steps, **options):
    """Start the processes of a training."""
    address = free_address()
    return start(
        [
            ["-m", MODULE, address, str(count), str(n), str(workdir), str(steps)]
            + [json.dumps(options)]
            for n in range(count)
        ]
    )


def metrics(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same(found, expected):
    """Sums of float32 in another order: a few units in the last of 24 bits."""
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        for name in ("loss", "grad_norm", "tau"):
            assert one[name] == pytest.approx(other[name], rel=2e-6, abs=1e-7)
            assert other[name] != 0


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone")
    codes, said = run(workdir, 1, 6)
    assert codes == [0], said
    return workdir


def test_two_processes_do_what_one_does(alone, tmp_path):
    codes, said = run(tmp_path, 2, 6)
    assert codes == [0, 0], said
    assert_same(metrics(tmp_path), metrics(alone))
    told = [json.loads((tmp_path / f"said{n}.json").read_text()) for n in (0, 1)]
    assert told[0] == told[1] and told[0]["processes"] == told[0]["devices"] == 2
    one = json.loads((alone / "said0.json").read_text())
    np.testing.assert_allclose(told[0]["errors"], one["errors"], rtol=1e-5, atol=1e-6)


def test_the_first_of_two_processes_writes_the_page(alone, tmp_path):
    codes, said = run(tmp_path, 2, 6)
    assert codes == [0, 0], said
    assert_same(metrics(tmp_path), metrics(alone))
    written = (tmp_path / "pages0.txt").read_text().splitlines()
    assert "step 5" in " ".join(written) and not (tmp_path / "pages1.txt").exists()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4)])
def test_another_number_of_processes_goes_on_with_the_same_batches(
    alone, tmp_path, before, after
):
    codes, said = run(tmp_path, before, 3)
    assert codes == [0] * before, said
    codes, said = run(tmp_path, after, 6)
    assert codes == [0] * after, said
    assert "resumed from step 3" in said[0][1]
    assert_same(metrics(tmp_path), metrics(alone))
    about = json.loads((tmp_path / "checkpoints/6/about/metadata").read_text())
    assert about["positions"] == [{"next_index": 6}]


def test_other_data_on_one_process_is_refused_before_the_first_step(tmp_path):
    codes, said = run(tmp_path, 2, 2, data=["these", "those"])
    assert codes == [1, 1], said
    for _, err in said:
        assert "data: process 1 on" in err and "'those'" in err and "'these'" in err
    assert not list(tmp_path.glob("**/metrics.jsonl"))


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_all_by_name_and_the_run_goes_on(alone, tmp_path, killed):
    begun = time.monotonic()
    # the save of step 4 is under way; that of step 2 was waited for
    codes, said = run(tmp_path, 2, 6, kill_at=[killed, 6])
    assert time.monotonic() - begun < 60  # the imports included
    assert codes == [1, 1], said
    for _, err in said:
        assert_tells(err, killed, "was killed by SIGKILL")
    logs = sorted((tmp_path / "processes").iterdir())
    assert [path.name[:12] for path in logs] == ["process-000-", "process-001-"]
    codes, said = run(tmp_path, 2, 6)
    assert codes == [0, 0], said
    assert re.search("resumed from step [24] ", said[0][1])
    assert_same(metrics(tmp_path), metrics(alone))


def assert_tells(err, index, why):
    """One line with the process, its host and why; no trace of C++ or of jax."""
    line = f"process {index} of 2 on {socket.gethostname()} {why}"
    assert err.count(line) == 1, err
    assert "newest checkpoint" in err
    assert not re.search(r"\*\*\*|Traceback|\.cc:\d+", err), err


def test_an_error_of_one_process_is_told_by_all(tmp_path):
    codes, said = run(tmp_path, 2, 6, fail_at=[1, 3])
    assert codes == [1, 1], said
    host = socket.gethostname()
    for _, err in said:
        assert f"process 1 of 2 on {host} ended with exit code 1" in err
        assert "ValueError: row 7 of the data is broken" in err
    assert "Traceback" in said[1][1] and "Traceback" not in said[0][1].split("row 7")[1]


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (signal.SIGKILL, "is gone: its connection closed without a word"),
        (signal.SIGSTOP, "is gone or stopped: no sign of its host for 20 s"),
    ],
)
@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_that_is_gone_is_noticed_by_the_others(tmp_path, number, why, lost):
    """Its parent is killed, or stopped; the others wait in the middle of a step."""
    running = begin(tmp_path, 2, 6, wait_at=4)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints/2").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    running[lost].send_signal(number)
    begun = time.monotonic()
    _, err = running[1 - lost].communicate(timeout=60)
    assert time.monotonic() - begun < 60
    assert running[1 - lost].returncode == 1
    assert f"process {lost} of 2 on {socket.gethostname()} {why}" in err
    running[lost].kill()
    running[lost].communicate(timeout=30)  # its child has ended with it


def test_ctrl_c_on_one_stops_and_saves_all(tmp_path):
    running = begin(tmp_path, 2, 10**6)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints/2").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    running[1].send_signal(signal.SIGINT)
    codes, said = finish(running, timeout=120)
    assert codes == [143, 143], said
    assert "the same command goes on from there" in said[0][1]

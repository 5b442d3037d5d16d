"""Parents and their children, which are shells of a few lines that import no jax."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from medjax.runtime.supervisor import Cause, choose_cause, describe_end
from tests.processes import ROOT

# A child tells its parent its place, and what it says last, as `watched` does.
CHILD = """
import json, os, sys, time
port, write, read = map(int, os.environ["WATCH"].split(","))
index, ports, then = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def tell(**message):
    os.write(write, (json.dumps(message) + "\\n").encode())
if index == 0:
    open(ports, "w").write(f"{port}\\n")
while not os.path.exists(ports) or not open(ports).read().endswith("\\n"):
    time.sleep(0.01)
first = int(open(ports).read())
hosts = ["node0", "node1", "node2"]
tell(index=index, hosts=hosts, addresses=["127.0.0.1"], port=first, secret=sys.argv[4])
time.sleep(1)  # parents meet
open(f"{ports}{index}", "w").close()
exec(then)
"""
PARENT = """
import os, sys
from medjax.runtime.supervisor import watch_child
command = [sys.executable, "-c", *sys.argv[1:]]
sys.exit(watch_child(command, os.environ, variable="WATCH"))
"""
WAIT = "os.read(read, 1)"  # until its parent ends


def parents(tmp_path, *endings, secrets=("s", "s", "s")):
    """Three parents, whose children end as Python says."""
    ports = tmp_path / "port"
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-c", PARENT, CHILD),
                *(str(index), str(ports), then, secrets[index]),
            ],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, then in enumerate(endings)
    ]


def wait_for_all(tmp_path):
    """Until the three children have told their places, and parents have met."""
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("port?"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)


def ends(running):
    said = [process.communicate(timeout=60)[1] for process in running]
    return [process.returncode for process in running], said


def test_processes_that_end_well_need_nothing(tmp_path):
    codes, said = ends(parents(tmp_path, "time.sleep(2)", "pass", "sys.exit(0)"))
    assert codes == [0, 0, 0] and said == ["", "", ""]


def test_an_orderly_stop_keeps_its_code(tmp_path):
    codes, said = ends(parents(tmp_path, *["sys.exit(143)"] * 3))
    assert codes == [143, 143, 143] and said == ["", "", ""]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_what_is_killed_is_named_by_all(tmp_path, lost):
    """Also where others fall over it first, and say so before."""
    broken = "tell(said='JaxRuntimeError: closed by peer'); sys.exit(1)"
    endings = [broken, WAIT, broken]
    endings[lost] = "time.sleep(1); os.kill(os.getpid(), 9)"
    codes, said = ends(parents(tmp_path, *endings))
    assert codes == [1, 1, 1]
    for err in said:
        assert f"process {lost} of 3 on node{lost} was killed by SIGKILL" in err
        assert "JaxRuntimeError" not in err and "newest checkpoint" in err


def test_an_error_is_told_where_it_did_not_happen(tmp_path):
    failing = "tell(said='ValueError: no room on the disk'); sys.exit(1)"
    codes, said = ends(parents(tmp_path, WAIT, failing, WAIT))
    assert codes == [1, 1, 1]
    told = "process 1 of 3 on node1 ended with exit code 1"
    assert all(told in err for err in said)
    assert "no room on the disk" in said[0] and "no room on the disk" in said[2]
    assert "no room on the disk" not in said[1]  # its child has said it there


@pytest.mark.parametrize("lost", [0, 2])
def test_a_parent_that_is_killed_is_a_host_that_is_gone(tmp_path, lost):
    running = parents(tmp_path, WAIT, WAIT, WAIT)
    wait_for_all(tmp_path)
    running[lost].kill()
    codes, said = ends(running)
    assert codes == [-9 if n == lost else 1 for n in range(3)]
    for index, err in enumerate(said):
        if index != lost:
            assert f"process {lost} of 3 on node{lost}" in err
            assert "is gone: its connection closed without a word" in err


def test_a_stranger_is_not_let_in(tmp_path):
    """With another secret it is no process of this run, and its end means nothing."""
    running = parents(
        tmp_path,
        "time.sleep(3)",
        "time.sleep(3)",
        "os.kill(os.getpid(), 9)",
        secrets=("s", "s", "another"),
    )
    _, err = running[2].communicate(timeout=60)
    assert running[2].returncode == 1 and "killed by SIGKILL" in err
    assert running[1].wait(timeout=60) == 0
    running[0].kill()  # it would wait for the third a while
    ends(running[:2])


def test_a_child_that_never_met_the_others_ends_alone(tmp_path):
    program = "import sys; sys.stderr.write('no coordinator\\n'); sys.exit(1)"
    parent = subprocess.run(
        [sys.executable, "-c", PARENT, program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert parent.returncode == 1 and parent.stderr == "no coordinator\n"


def test_signals_are_handed_on(tmp_path):
    child = (
        "import signal; signal.signal(2, signal.SIG_IGN);"
        "signal.signal(15, lambda *_: sys.exit(143)); time.sleep(60)"
    )
    running = parents(tmp_path, child, child, child)
    wait_for_all(tmp_path)
    for process in running:
        process.send_signal(signal.SIGINT)
    assert ends(running)[0] == [143, 143, 143]


def test_what_began_it_comes_before_what_fell_over_it():
    causes = [
        describe_end(0, 1, "JaxRuntimeError: Gloo: connection closed"),
        describe_end(2, -signal.SIGABRT, ""),
        describe_end(1, -signal.SIGKILL, "step 4"),
        describe_end(3, 1, "CheckpointError: no room"),
    ]
    assert choose_cause(causes) == Cause(
        2, 1, "was killed by SIGKILL, by hand or by the kernel for want of memory"
    )
    assert choose_cause(causes[:2]).index == 0
    assert json.loads(json.dumps(causes[3])) == [
        2,
        3,
        "ended with exit code 1",
        "CheckpointError: no room",
    ]

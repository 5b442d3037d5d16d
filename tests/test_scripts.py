"""The scripts that start a run on a cluster, with stubs in place of its scheduler.

`tests/schedulers` holds the stubs: commands of the real names, which start processes
on this machine with the variables of the real ones. A process of a run is a stub too,
which keeps what it was started with; what `run.py` would make of that is asked of
`find_launch`.
"""

import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
import yaml

from medjax.runtime.launch import find_launch

REPO = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS, STUBS = REPO / "scripts", REPO / "tests/schedulers"
ARGUMENTS = ["--config=configs/medloc.py", "--workdir=/shared/a run"]


def environment(folder, *, code="0", **more):
    """Variables for a script that meets the stubs, whose files lie in a folder."""
    (folder / "code").write_text(code)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not re.match("SLURM|CUDA|TPU|JAX|OMPI|PMI|KUBERNETES", name)
    }
    path = f"{STUBS}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "STUBS": str(folder), "PYTHON": "task", **more}


def started(folder):
    """Variables and arguments of the processes of the run."""
    found = []
    for path in (folder / "started").glob("*.environ"):
        pairs = (x.partition("=") for x in path.read_text().split("\0") if x)
        arguments = path.with_suffix(".arguments").read_text().splitlines()
        found.append(({name: value for name, _, value in pairs}, arguments))
    return found


def wait_for(folder, count):
    deadline = time.monotonic() + 30
    while len(started(folder)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sbatch(folder, *overruled, code="0", arguments=ARGUMENTS, **more):
    """Start the script as sbatch does: from a copy, its lines of options read."""
    text = (SCRIPTS / "slurm.sh").read_text()
    lines = [*re.findall(r"^#SBATCH (--.*)$", text, re.M), *overruled]
    options = dict(line.removeprefix("--").partition("=")[::2] for line in lines)
    nodes = int(options["nodes"])
    assert (options["gpus-per-node"], nodes) == ("8", 2)
    copy = folder / "slurm_script"
    copy.write_text(text)
    env = environment(
        folder,
        code=code,
        SLURM_JOB_ID="77",
        SLURM_JOB_NODELIST="node[1-2]",
        SLURM_JOB_NUM_NODES=str(nodes),
        SLURM_NTASKS_PER_NODE=options["ntasks-per-node"],
        SLURM_CPUS_PER_TASK=options["cpus-per-task"],
        SLURM_GPUS_ON_NODE=options["gpus-per-node"],
        CUDA_VISIBLE_DEVICES="0,1,2,3,4,5,6,7",
        SLURM_SUBMIT_DIR=str(REPO),
        **more,
    )
    running = subprocess.Popen(
        ["bash", copy, *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return running, options


def finish(running):
    said, _ = running.communicate(timeout=60)
    return running.returncode, said


@pytest.mark.parametrize(
    ("overruled", "share"),
    [
        ((), 8),
        (("--ntasks-per-node=8", "--cpus-per-task=12"), 1),
        (("--ntasks-per-node=2", "--cpus-per-task=48"), 4),
    ],
)
def test_slurm_gives_each_gpu_of_each_node_to_one_process(tmp_path, overruled, share):
    running, options = sbatch(tmp_path, *overruled)
    assert finish(running) == (0, "")
    assert int(options["ntasks-per-node"]) * int(options["cpus-per-task"]) == 96
    taken, places = [], set()
    for environ, arguments in started(tmp_path):
        assert arguments == ["run.py", *ARGUMENTS]
        # what the node's device files show is told apart from what SLURM says
        launch = find_launch(environ, gpus=8)
        assert launch.launcher == "SLURM" and len(launch.devices) == share
        places.add((launch.index, launch.processes))
        taken += [(environ["SLURM_NODEID"], gpu) for gpu in launch.devices]
    count = 16 // share
    assert places == {(index, count) for index in range(count)}
    assert sorted(taken) == [(node, gpu) for node in "01" for gpu in range(8)]


def test_slurm_saves_ahead_of_the_time_limit_and_queues_the_job_again(tmp_path):
    running, options = sbatch(tmp_path, code="wait")
    assert options["signal"] == "B:USR1@600"
    assert {"requeue", "exclusive"} <= options.keys()
    assert options["open-mode"] == "append"
    wait_for(tmp_path, 2)
    running.send_signal(signal.SIGUSR1)
    code, said = finish(running)
    assert code == 143 and "goes back into the queue" in said
    assert (tmp_path / "scontrol").read_text() == "requeue 77\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("0", ""),
        ("3", "warnings"),
        ("1", "the same sbatch goes on from the newest checkpoint"),
        ("143", "ended with exit code 143"),  # cancelled, or preempted
    ],
)
def test_slurm_queues_nothing_else_again(tmp_path, code, words):
    running, _ = sbatch(tmp_path, code=code)
    found, said = finish(running)
    assert found == int(code) and words in said
    assert not (tmp_path / "scontrol").exists()


def test_slurm_asks_for_a_workdir(tmp_path):
    running, _ = sbatch(tmp_path, arguments=["--config=configs/medloc.py"])
    code, said = finish(running)
    assert code == 1 and "expected --workdir=FOLDER" in said
    assert not started(tmp_path)


def queued_tpu(folder, slices, arguments):
    """Run the script over slices, each the states that it goes through and a code."""
    (folder / "mount/medjax").mkdir(parents=True)
    for number, (states, code) in enumerate(slices, start=1):
        (folder / f"states.{number}").write_text("\n".join(states) + "\n")
        (folder / f"codes.{number}").write_text(code)
    own = {"PROJECT": "mine", "SHARE": "10.0.0.2:/runs", "PAUSE": "0"}
    env = environment(folder, MOUNT=str(folder / "mount"), **own)
    command = ["bash", SCRIPTS / "queued_tpu.sh", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    asked = (folder / "gcloud").read_text() if (folder / "gcloud").exists() else ""
    return done, re.findall(r"queued-resources (create|delete)", asked)


def test_a_queued_tpu_is_waited_for_and_again_after_a_preemption(tmp_path):
    arguments = ["--config=configs/medloc.py", f"--workdir={tmp_path}/mount/a run"]
    waiting = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    slices = [([*waiting, "ACTIVE", "SUSPENDED"], "255"), (["ACTIVE"], "0")]
    done, asked = queued_tpu(tmp_path, slices, arguments)
    assert done.returncode == 0, done.stderr
    assert "medjax is SUSPENDED: queued for again" in done.stdout
    assert asked == ["create", "delete"] * 2
    runs = started(tmp_path)
    assert len(runs) == 8  # four hosts, twice
    for environ, found in runs:
        assert found == ["run.py", *arguments]
        # jax finds the others, and takes all chips of a TPU's host
        assert find_launch(environ, tpu=True) == ("TPU", *[None] * 4)
    workers = [environ["TPU_WORKER_ID"] for environ, _ in runs]
    assert sorted(workers) == list("00112233")


@pytest.mark.parametrize(
    ("states", "code", "expected", "words"),
    [
        (["ACTIVE"], "1", 1, "failed on a slice that is there"),
        (["ACTIVE"], "3", 0, ""),  # finished, with warnings
        (["CREATING", "FAILED"], "0", 1, "has FAILED before it was there"),
    ],
)
def test_a_queued_tpu_is_deleted_whatever_the_end(
    tmp_path, states, code, expected, words
):
    arguments = [f"--workdir={tmp_path}/mount/run"]
    done, asked = queued_tpu(tmp_path, [(states, code)], arguments)
    assert done.returncode == expected and words in done.stderr
    assert asked == ["create", "delete"]


def test_a_queued_tpu_asks_for_a_workdir_on_the_share(tmp_path):
    done, asked = queued_tpu(tmp_path, [(["ACTIVE"], "0")], ["--workdir=/tmp/run"])
    assert done.returncode == 1 and not asked
    assert f"expected --workdir={tmp_path}/mount/..." in done.stderr


def kubernetes():
    """The Service, the Job, and what each pod is started with, as nodes have them."""
    service, job = yaml.safe_load_all((SCRIPTS / "gke.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    pods = []
    for index in range(job["spec"]["completions"]):
        environ = {one["name"]: one["value"] for one in container["env"]}
        environ |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        environ |= {"JOB_COMPLETION_INDEX": str(index)}
        arguments = [
            re.sub(r"\$\((\w+)\)", lambda found: environ[found[1]], one)  # noqa: B023
            for one in container["args"]
        ]
        pods.append(
            (environ, dict(x.removeprefix("--").split("=", 1) for x in arguments))
        )
    return service, job["spec"], pods


def test_pods_of_gke_meet_at_the_first_and_take_all_gpus():
    service, job, pods = kubernetes()
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python", "run.py"]
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] == len(pods) == 2
    limit = container["resources"]["limits"]["nvidia.com/gpu"]
    launches = [
        find_launch(
            environ,
            coordinator=flags["coordinator"],
            processes=int(flags["num_processes"]),
            index=int(flags["process_id"]),
            gpus=limit,
        )
        for environ, flags in pods
    ]
    # the name that Kubernetes gives to the first pod of an indexed Job in a subdomain
    name = service["metadata"]["name"]
    first = f"{service['spec']['selector']['job-name']}-0.{pod['subdomain']}:55527"
    assert pod["subdomain"] == name and service["spec"]["clusterIP"] == "None"
    assert launches == [("flags", first, 2, index, tuple(range(8))) for index in (0, 1)]
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    for _, flags in pods:
        assert f"/{flags['workdir'].split('/')[1]}" in mounts


def test_a_job_of_gke_knows_the_exit_codes_of_a_run():
    _, job, _ = kubernetes()
    rules = job["podFailurePolicy"]["rules"]
    codes = {
        code: rule["action"]
        for rule in rules
        for code in rule.get("onExitCodes", {}).get("values", ())
    }
    assert codes == {143: "Ignore", 3: "FailJob"}
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # else no such policy

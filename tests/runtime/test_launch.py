"""How a process finds the others: environments as launchers leave them, and flags."""

import pytest

from medjax.runtime.launch import find_launch


def slurm(size, rank, tasks, **more):
    """What srun sets for a task: `tasks` as SLURM writes the tasks of each node."""
    return {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_NODELIST": "node[1-2]",
        "SLURM_NTASKS": str(size),
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_PROCID": str(rank),
        **more,
    }


def test_a_process_without_flags_and_launcher_is_alone():
    assert find_launch({}) is None
    assert find_launch({}, gpus=8) is None
    # a pod or an allocation of one process says nothing of others
    assert find_launch({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) is None
    assert find_launch(slurm(1, 0, "1", SLURM_LOCALID="0"), gpus=8) is None
    assert find_launch({"TPU_WORKER_HOSTNAMES": "localhost"}) is None


def test_flags_name_the_place_and_come_before_a_launcher():
    given = {"coordinator": "node1:1234", "processes": 4, "index": 3}
    launch = find_launch({}, **given)
    assert launch == ("flags", "node1:1234", 4, 3, None)
    assert find_launch(slurm(2, 1, "1(x2)"), **given) == launch
    environ = {"JAX_COORDINATOR_ADDRESS": "node1:1234", "JAX_LOCAL_DEVICE_IDS": "2,3"}
    launch = find_launch(environ, processes=2, index=0)
    assert launch == ("flags", "node1:1234", 2, 0, (2, 3))


def test_one_process_is_alone_whatever_a_launcher_says():
    assert find_launch(slurm(2, 1, "1(x2)"), processes=1) is None


@pytest.mark.parametrize(
    ("given", "piece"),
    [
        ({"processes": 2}, "expected all three"),
        ({"processes": 2, "index": 0}, "expected all three"),
        ({"coordinator": "a:1", "index": 0}, "expected all three"),
        ({"coordinator": "a:1"}, "expected --num_processes and --process_id beside it"),
        ({"coordinator": "a", "processes": 2, "index": 0}, "expected HOST:PORT"),
        ({"coordinator": "a:1", "processes": 2, "index": 2}, "expected 0 to"),
        ({"coordinator": "a:1", "processes": 2, "index": -1}, "expected 0 to"),
        ({"coordinator": "a:1", "processes": 0, "index": 0}, "of 1 or more"),
    ],
)
def test_flags_that_leave_something_open_are_refused(given, piece):
    with pytest.raises(ValueError, match=piece):
        find_launch({}, **given)


@pytest.mark.parametrize(
    ("environ", "gpus", "devices"),
    [
        # one task a node takes all that the node shows
        (slurm(2, 1, "1(x2)", SLURM_LOCALID="0"), 8, tuple(range(8))),
        (
            slurm(
                2, 1, "1(x2)", SLURM_GPUS_ON_NODE="4", CUDA_VISIBLE_DEVICES="4,5,6,7"
            ),
            8,
            (0, 1, 2, 3),
        ),
        # one task a GPU: by its number where all are seen, its own where it is bound
        (slurm(16, 11, "8(x2)", SLURM_LOCALID="3", SLURM_NODEID="1"), 8, (3,)),
        (slurm(16, 3, "8(x2)", SLURM_LOCALID="3", CUDA_VISIBLE_DEVICES="3"), 8, (0,)),
        # two tasks a node share
        (slurm(4, 1, "2(x2)", SLURM_LOCALID="1"), 8, (4, 5, 6, 7)),
        # the last node has fewer tasks
        (slurm(3, 2, "2,1", SLURM_LOCALID="0", SLURM_NODEID="1"), 8, tuple(range(8))),
        # chosen by hand; no GPU; on a GPU node by intent on the CPU
        (slurm(2, 1, "1(x2)", JAX_LOCAL_DEVICE_IDS="5"), 8, (5,)),
        (slurm(2, 1, "1(x2)"), 0, None),
        (slurm(2, 1, "1(x2)", JAX_PLATFORMS="cpu"), 8, None),
    ],
)
def test_a_task_of_slurm_gets_its_share_of_the_nodes_gpus(environ, gpus, devices):
    launch = find_launch(environ, gpus=gpus)
    size, rank = int(environ["SLURM_NTASKS"]), int(environ["SLURM_PROCID"])
    assert launch == ("SLURM", None, size, rank, devices)


@pytest.mark.parametrize(
    "environ",
    [
        slurm(2, 0, "1(x2)", CUDA_VISIBLE_DEVICES="0"),  # 7 idle
        slurm(6, 0, "3(x2)", SLURM_LOCALID="0"),  # 3 do not divide 8
        slurm(4, 0, "2(x2)", SLURM_LOCALID="0", CUDA_VISIBLE_DEVICES="0"),
        slurm(2, 0, "1(x2)", CUDA_VISIBLE_DEVICES=""),
    ],
)
def test_idle_or_shared_gpus_are_refused(environ):
    with pytest.raises(ValueError, match=r"shows 8 GPUs .* JAX_LOCAL_DEVICE_IDS"):
        find_launch(environ, gpus=8)


def test_a_batch_script_of_several_tasks_has_to_use_srun():
    environ = slurm(4, 0, "2(x2)")
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST"):
        del environ[name]
    with pytest.raises(ValueError, match=r"4 processes .* srun .*--num_processes=1"):
        find_launch(environ)
    # a shell that is a step of one task within it
    environ["SLURM_STEP_NUM_TASKS"] = "1"
    with pytest.raises(ValueError, match="did not start as one of them"):
        find_launch(environ)


def ompi(**more):
    return {
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        **more,
    }


def test_mpi_tells_the_place_and_not_always_where_the_first_is():
    uri = {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}
    assert find_launch(ompi(**uri)) == ("Open MPI", None, 2, 1, None)
    launch = find_launch(ompi(), coordinator="node1:1234", gpus=2)
    assert launch == ("Open MPI", "node1:1234", 2, 1, (1,))
    with pytest.raises(ValueError, match=r"2 processes .* --coordinator=HOST:PORT"):
        find_launch(ompi())  # Open MPI 5 has no such address
    with pytest.raises(ValueError, match="PMI_SIZE"):
        find_launch({"PMI_SIZE": "4", "PMI_RANK": "0"})
    with pytest.raises(ValueError, match="WORLD_SIZE"):
        find_launch({"WORLD_SIZE": "4", "RANK": "0"})
    with pytest.raises(ValueError, match="RANK=4: expected 0 to 3"):
        find_launch({"WORLD_SIZE": "4", "RANK": "4"}, coordinator="a:1")
    with pytest.raises(ValueError, match="PMI_SIZE=two: expected a whole number"):
        find_launch({"PMI_SIZE": "two"})


def test_tpus_and_indexed_jobs_are_left_to_jax():
    assert find_launch({"TPU_WORKER_HOSTNAMES": "a,b"}) == ("TPU", *[None] * 4)
    assert find_launch({}, tpu=True) == ("TPU", *[None] * 4)
    job = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}
    assert find_launch(job) == ("Kubernetes", *[None] * 4)


def test_an_address_alone_is_refused():
    with pytest.raises(ValueError, match="how many processes there are"):
        find_launch({"JAX_COORDINATOR_ADDRESS": "node1:1234"})

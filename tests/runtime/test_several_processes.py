"""The loop over several real processes: same numbers, one checkpoint for all."""

import json

import numpy as np
import pytest

from tests.processes import finish, free_address, start

pytestmark = pytest.mark.slow  # each process imports for seconds

MODULE = "tests.runtime.loop_process"


def run(workdir, count, steps, **options):
    """Train the toy system in `count` processes; exit codes and what they said."""
    address = free_address()
    running = start(
        [
            ["-m", MODULE, address, str(count), str(n), str(workdir), str(steps)]
            + [json.dumps(options)]
            for n in range(count)
        ]
    )
    return finish(running)


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


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4), (4, 2)])
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

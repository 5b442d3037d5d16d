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

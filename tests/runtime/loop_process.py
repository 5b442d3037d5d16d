"""One of several processes that train a toy system through the loop.

python -m tests.runtime.loop_process ADDRESS COUNT INDEX WORKDIR STEPS [OPTIONS as JSON]
"""

import json
import os
import signal
import sys
import time

import jax

from medjax.runtime.start import start

address, count, index, workdir, steps = sys.argv[1:6]
given = json.loads(sys.argv[6]) if sys.argv[6:] else {}
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)  # as in the suite
place = {"coordinator": address, "processes": int(count), "index": int(index)}
start({"environ": os.environ, **place}, workdir, __file__, steps=steps)

import grain  # noqa: E402
import numpy as np  # noqa: E402

from medjax.runtime.live import Live  # noqa: E402
from medjax.runtime.loop import evaluate, train  # noqa: E402
from medjax.sharding import make_mesh  # noqa: E402
from tests.runtime.toy_system import RULES, build  # noqa: E402

ROWS = 8


def batch(rows):
    """Rows of a batch of this process."""
    x = np.stack([np.random.default_rng((3, row)).normal(size=4) for row in rows])
    return {"x": x.astype(np.float32), "y": x.sum(1).astype(np.float32)}


class Noting:
    """A source that notes what rows it gave."""

    def __init__(self, source):
        self.source = iter(source)

    def __iter__(self):
        return self

    def __next__(self):
        made = next(self.source)
        if given.get("kill_at") == [int(index), self.get_state()["next_index"]]:
            os.kill(os.getpid(), signal.SIGKILL)
        if given.get("fail_at") == [int(index), self.get_state()["next_index"]]:
            raise ValueError("row 7 of the data is broken")
        if given.get("wait_at") == self.get_state()["next_index"]:
            time.sleep(600)
        return made

    def get_state(self):
        return self.source.get_state()

    def set_state(self, state):
        self.source.set_state(state)


def told(kind):
    """A page that notes which process writes it, and at which state."""

    def write(folder, **about):
        with open(f"{workdir}/pages{index}.txt", "a") as file:
            file.write(f"{kind} {about['state']}\n")

    return write


source = (
    grain.MapDataset.range(10**6)
    .batch(ROWS // int(count), batch_fn=batch)[int(index) :: int(count)]
    .to_iter_dataset(grain.ReadOptions(num_threads=0))
)
mesh = make_mesh({"data": 1, "fsdp": -1, "model": 1})
system = build()
state = train(
    system,
    Noting(source),
    mesh=mesh,
    rules=RULES,
    steps=int(steps),
    seed=0,
    workdir=workdir,
    checkpoint_every=2,
    keep=2,
    live=Live(told("write"), told("mark"), every=0.0, share=1e9),
    identity={"data": given.get("data", ["toy"] * int(count))[int(index)]},
)
whole = [(batch(range(ROWS)), None)]
results = evaluate(system, state, whole, mesh=mesh, rules=RULES, seed=0)
said = {
    "processes": jax.process_count(),
    "devices": jax.device_count(),
    "errors": [metrics["error"].tolist() for _, metrics, _ in results],
}
with open(f"{workdir}/said{index}.json", "w") as file:
    json.dump(said, file)

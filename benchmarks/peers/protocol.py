"""How the coordinator talks to a worker: a line "step" in, a line of JSON out.

A worker is a process of its own (each peer has its own virtual environment) that builds
its policy from the workload in argv[1] and then runs one GRPO step whenever it is told
to, so that steps of different libraries can be interleaved. Standard library only.
"""

import json
import os
import sys
import time


class Channel:
    """The worker's end. What libraries print goes to stderr, not into the protocol."""

    def __init__(self):
        self.workload = json.loads(sys.argv[1])
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._clock = None

    def ready(self, **facts):
        """Say which versions were built."""
        self._out.write(json.dumps(facts) + "\n")

    def wait(self):
        """Block until a step is wanted and start the clocks; end of input ends us."""
        if sys.stdin.readline().strip() != "step":
            os._exit(0)  # a trainer's own loop cannot be left any faster
        self._clock = time.perf_counter(), time.process_time()

    def done(self, **facts):
        """Stop the clocks; `facts` may be numbers that the step computed."""
        seconds = time.perf_counter() - self._clock[0]
        cpu = time.process_time() - self._clock[1]  # of all threads
        self._out.write(json.dumps({"seconds": seconds, "cpu": cpu, **facts}) + "\n")


def prompt_tokens(workload, step):
    """Token ids of the step's prompts: a ramp with another start for each prompt."""
    first, span = 3, workload["vocab"] - 3  # 0 pad, 1 end, 2 begin or unknown
    return [
        [first + (7 * index + j) % span for j in range(workload["prompt_tokens"])]
        for index in range(step * workload["prompts"], (step + 1) * workload["prompts"])
    ]

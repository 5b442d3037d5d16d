"""Runs scripts of one tree, one after the other, each in a process of its own.

The processes are forks of this one, which has imported what takes seconds: no module
of medjax itself, and nothing that starts a device. Jobs come in and answers go out as
lines of JSON. The tree is the working directory, and `medjax` has to come from it.
"""

import gc
import importlib.util
import json
import os
import pathlib
import runpy
import sys
import time


def import_third_parties():
    import absl.app
    import flax.linen
    import grain
    import jax
    import matplotlib.pyplot
    import ml_collections.config_flags
    import nibabel
    import optax.contrib
    import orbax.checkpoint
    import rich.progress
    import tensorboardX
    import transformers
    from tokenizers.trainers import BpeTrainer
    from transformers import AutoTokenizer, Qwen2Tokenizer

    del absl, flax, grain, jax, matplotlib, ml_collections, nibabel, optax, orbax
    del rich, tensorboardX, transformers, BpeTrainer, AutoTokenizer, Qwen2Tokenizer


def run(job):
    """Exit code of one script; what it says goes to the job's log."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    log = os.open(job["log"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.argv = [job["script"], *job["arguments"]]
    runpy.run_path(job["script"], run_name="__main__")
    sys.exit(0)


def main():
    package = importlib.util.find_spec("medjax").origin
    if not pathlib.Path(package).is_relative_to(pathlib.Path.cwd()):
        sys.exit(f"medjax comes from {package}, expected it in {pathlib.Path.cwd()}")
    import_third_parties()
    gc.freeze()
    for line in sys.stdin:
        start = time.monotonic()
        code = run(json.loads(line))
        answer = {"code": code, "seconds": time.monotonic() - start}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

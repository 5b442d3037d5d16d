"""One of two processes that load a user's data: what it read, and the verdict it got.

python -m tests.recipes.policy.check_process ADDRESS INDEX FOLDER
"""

import json
import sys
from pathlib import Path

import jax

address, index, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, num_processes=2, process_id=index)

from medjax.data.audit import facts  # noqa: E402
from medjax.data.images import ImageFile  # noqa: E402
from medjax.recipes.policy import checking  # noqa: E402
from tests.recipes import smoke  # noqa: E402

read = []


def count(image, origin, plain=facts.read_image):
    """What `read_image` reads, noted."""
    read.append(image.path.name)
    return plain(image, origin)


facts.read_image = count
sections = smoke.sections(f"data={folder / 'boxes.jsonl'}", data__near="group")
source = smoke.read_section(smoke.BoxData, "data", sections["data"])
geometry = smoke.open_policy(sections["policy"]).geometry
parts = smoke.load_box_parts(source, geometry, seed=0)
doubts = checking.gate(parts)
broken = {ImageFile(folder / "broken.png"): "boxes.jsonl, line 9"}
problems = checking.decode_once(folder / "cache.npz", broken).problems
said = {
    "processes": jax.process_count(),
    "read": sorted(read),
    "parts": [sample.part for sample in parts.samples],
    "near": list(parts.pictures.near),
    "doubts": doubts,
    "problem": list(problems.values()),
    "digests": [one.digest for one in parts.pictures.facts.values()],
}
Path(folder, f"said{index}.json").write_text(json.dumps(said))

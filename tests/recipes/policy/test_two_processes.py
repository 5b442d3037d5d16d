"""The check on two processes that talk over the loopback: one reads, both know."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.recipes.pictures import box_lines, save_scenes, scene, write_boxes

ROOT = Path(__file__).parents[3]


def test_one_of_two_processes_reads_and_both_have_the_verdict(tmp_path):
    from PIL import Image

    boxes = save_scenes(tmp_path, 8)
    Image.fromarray(scene(0)[0][:, ::-1]).save(tmp_path / "images" / "7.png")
    lines = box_lines(boxes)
    x1, y1, x2, y2 = boxes[0]
    lines[7]["box"] = [56 - x2, y1, 56 - x1, y2]
    write_boxes(tmp_path, lines)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "tests.recipes.policy.check_process", address]
    env = os.environ | {
        "MEDJAX_CACHE": str(tmp_path / "cache"),
        "XLA_FLAGS": "",  # one device each
        "PYTHONPATH": str(ROOT),
    }
    running = [
        subprocess.Popen(  # the module of this test, with arguments of its own making
            [*command, str(index), str(tmp_path)],
            env=env,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    ends = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(ends)
    first, second = (
        json.loads((tmp_path / f"said{index}.json").read_text()) for index in (0, 1)
    )
    names = [f"{n}.png" for n in range(8)]
    assert (first.pop("read"), second.pop("read")) == ([*names, "broken.png"], [])
    assert first == second and first["processes"] == 2
    assert [pair[:2] for pair in first["near"]] == [[0, 7]]
    assert first["parts"][0] == first["parts"][7]  # data.near=group, on both alike
    assert "cannot read broken.png" in first["problem"][0]

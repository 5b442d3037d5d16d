"""The benchmarks run: our worker takes steps, what is missing is said and skipped."""

import importlib.util
import json
import pathlib
import sys

import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def grpo_step():
    spec = importlib.util.spec_from_file_location(
        "grpo_step", REPO / "benchmarks" / "grpo_step.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.bench
def test_our_worker_takes_steps(grpo_step):
    sizes = {"vocab": 32, "width": 16, "mlp": 16, "layers": 1, "heads": 2}
    sizes |= {"kv_heads": 1, "prompts": 2, "group": 4}
    sizes |= {"prompt_tokens": 5, "new_tokens": 4}
    env = grpo_step.worker_env() | {
        "PYTHONPATH": str(REPO),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    workload = grpo_step.WORKLOAD | sizes
    worker = grpo_step.start_worker("medjax", sys.executable, workload, env)
    first, second = worker.do("step"), worker.do("step")
    worker.close()
    assert "jax" in worker.about
    assert 0 < second["seconds"] < first["seconds"]  # compiled once
    assert first["length"] == second["length"] == 4
    assert first["kl"] == pytest.approx(0, abs=1e-6)  # still the reference
    assert second["kl"] > 1e-9
    assert first["reward_std"] > 0


def test_worker_that_ends_says_why(grpo_step):
    with pytest.raises(grpo_step.WorkerError, match=r"(?s)absent ended.*grpo_absent"):
        grpo_step.start_worker("absent", sys.executable, {}, grpo_step.worker_env())


def test_absent_peers_are_skipped_by_name(grpo_step, tmp_path, capsys):
    out = tmp_path / "out.json"
    options = ["--only", "trl", "tunix", "--peers", tmp_path, "--json", out]
    grpo_step.main([*map(str, options), "--steps", "1"])
    text = capsys.readouterr().out
    assert "trl: skipped" in text
    assert "google-tunix==0.1.7" in text
    assert json.loads(out.read_text())["tables"]["short"]["rows"] == []


def test_table_holds_ratios_to_ours(grpo_step, capsys):
    def row(library, seconds):
        numbers = {"median": seconds, "min": seconds}
        row = {"library": library, "pages": "huge", "first": {"seconds": 2.0}}
        return row | {"seconds": numbers, "cpu": numbers}

    rows = [row("medjax", 0.5), row("trl", 2.0)]
    grpo_step.print_table("short", grpo_step.WORKLOADS["short"], rows)
    line = "| trl | huge | 2.000 | 2.000 | 2.000 | 2.0 | 4.00 |"
    assert line in capsys.readouterr().out


def test_a_balanced_mix_moves_greedy_answers_away_from_none():
    """The bench shows what docs/labels.md says of balanced training."""
    spec = importlib.util.spec_from_file_location(
        "label_mix", REPO / "benchmarks" / "label_mix.py"
    )
    mix = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mix)
    (greedy, _, _, even), (greedy_after, _, _, even_after) = mix.train(0, balanced=True)
    assert greedy_after < greedy - 0.05 and even_after > even + 0.05
    (greedy, _, _, _), (greedy_after, _, _, _) = mix.train(0, balanced=False)
    assert greedy_after > greedy + 0.02

"""The command that prints what a protocol can reach."""

import numpy as np
import pytest

from medjax.mri import catalogue
from medjax.mri.bounds import cramer_rao_bound
from medjax.recipes import bounds

TIMES = "0.015,0.03,0.06,0.12"


def run(*args):
    bounds.main([str(a) for a in args])


def test_table_holds_the_bounds(capsys):
    run("--model", "t2", "--times", TIMES, "--t2", "0.06,0.1", "--snr", 50)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Cramer-Rao bound, t2, SNR 50, s0 = 1"
    assert lines[1].split("  ")[0] == "t2 [ms]"
    times = np.array([float(t) for t in TIMES.split(",")])
    for line, t2 in zip(lines[2:], (0.06, 0.1), strict=True):
        params = {"s0": 1.0, "t2": t2}
        found = cramer_rao_bound(
            times, model=catalogue.T2, params=params, noise_sd=0.02
        )
        numbers = [float(x) for x in line.split()]
        sigma = float(found["t2"])
        expected = [1e3 * t2, 1e3 * sigma, 100 * sigma / t2, float(found["s0"])]
        np.testing.assert_allclose(numbers, expected, atol=6e-3)


def test_other_models(capsys):
    run(
        *("--model", "t1_vfa", "--angles", "3,15", "--t1", "0.9", "--snr", 1000),
        *("--repetition-time", 0.015),
    )
    assert "t1 [ms]" in capsys.readouterr().out
    options = ("--model", "t1_vfa", "--angles", "3,15", "--t1", "0.9", "--snr", 1000)
    run(*options, "--repetition-time", "0.015,0.02")
    assert "t1 [ms]" in capsys.readouterr().out
    options = ("--model", "t1_look_locker", "--times", "0.1,0.4,1,3", "--snr", 100)
    run(*options, "--t1star", "0.7,0.9", "--t1", "0.9,1.3")
    assert "sigma t1" in capsys.readouterr().out
    run("--model", "t2_offset", "--times", TIMES, "--t2", "0.04", "--snr", 100)
    assert "sigma offset" in capsys.readouterr().out
    options = ("--model", "t1_ir3", "--times", "0.05,0.4,1,3", "--snr", 50)
    run(*options, "--t1", "0.8,1.3", "--efficiency", 0.95)
    single = capsys.readouterr().out
    run(*options, "--t1", "0.8,1.3", "--efficiency", 0.95, "--weights", "4,4,4,4")
    double = capsys.readouterr().out
    first, second = (float(x.splitlines()[2].split()[1]) for x in (single, double))
    assert first == pytest.approx(2 * second, rel=1e-2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--times", "15,30,60", "--t2", "0.08"), "divide by 1000"),
        (("--times", TIMES), "model t2 needs --t2"),
        (("--times", TIMES, "--t2", "0.08", "--t1", "1"), "has no use for --t1"),
        (("--times", TIMES, "--t2", "0.08", "--offset", "0.1"), "no use for --offset"),
        (("--angles", "3,15", "--t2", "0.08"), "needs --times"),
        (("--model", "t1_look_locker", "--times", TIMES, "--t1", "1"), "--t1star"),
        (("--times", "0.1;0.2", "--t2", "0.08"), "separated by commas"),
        (("--times", TIMES, "--t2", "0.08", "--repetition-time", "1"), "has no rep"),
        (("--times", TIMES, "--t2", "0.08", "--weights", "1,2"), "weights: expected"),
    ],
)
def test_bad_arguments(capsys, args, message):
    with pytest.raises(SystemExit):
        run("--model", "t2", "--snr", 50, *args)
    assert message in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = capsys.readouterr().out
    assert "--times 0.015,0.03,0.06,0.12" in text and "degrees" in text

"""A checkpoint's network is what its manifest says, or an error says why not."""

import json

import numpy as np
import pytest

from configs.puq import get_config
from medjax.mri.subspace import inversion_recovery_basis
from medjax.recipes.qmri.options import (
    Definition,
    Measured,
    Regression,
    read_definition,
)
from medjax.recipes.qmri.setup import make_estimator
from medjax.recipes.qmri.trained import find_trained
from medjax.recipes.sections import read_section
from tests.recipes.puq_smoke import sections


def config(arg="", **changes):
    found = sections(arg, **changes)
    return {name: found[name] for name in ("data", "network", "fit")}


@pytest.mark.parametrize("arg", ["", "contrast=t2", "contrast=t1"])
def test_what_is_usual_is_what_follows_from_the_contrast_alone(arg):
    found, plain = get_config(arg).to_dict(), get_config("").to_dict()
    usual = found["predict"]["usual"]
    assert usual["network"] == found["network"]
    assert usual["fit"] == {name: found["fit"][name] for name in Regression._fields}
    assert usual["data"] == {name: plain["data"][name] for name in Measured._fields}


def save(folder, *configs, stage="fit"):
    """A stage's folder: a record for each start, and nothing in its checkpoints."""
    (folder / stage / "checkpoints").mkdir(parents=True)
    starts = [{"stage": stage, "config": one} for one in configs]
    (folder / stage / "manifest.json").write_text(json.dumps(starts))
    return str(folder)


def find(run, arg="", use="weighted", **changes):
    usual = get_config(arg).predict.usual.to_dict()
    return find_trained(
        run,
        read_definition(config(arg, **changes)),
        read_section(Definition, "predict.usual", usual),
        fit=use,
    )


def bounds(trained):
    return trained.estimator.quantity.bounds


@pytest.mark.parametrize("arg", ["", "form=puq", "form=modl,contrast=t1"])
def test_the_network_is_the_manifest_s(tmp_path, arg):
    trained_by = config(arg, network__stages=4, data__times=(0.01, 0.05, 0.1))
    found, replaced = find(save(tmp_path, trained_by))
    assert found.folder == tmp_path / "fit" / "checkpoints" and found.stage == "fit"
    trained_by["network"]["unroll"] = sections()["network"]["unroll"]  # SCHEDULING
    expected = make_estimator(read_definition(trained_by))
    assert found.estimator._replace(basis=None) == expected._replace(basis=None)
    if found.estimator.basis is not None:
        np.testing.assert_array_equal(found.estimator.basis, expected.basis)
    assert found.estimator.quantity.times == (0.01, 0.05, 0.1)
    assert "network.stages 4, not 3" in replaced
    assert ("data.contrast 't1', not 't2'" in replaced) == ("t1" in arg)


def test_nothing_is_replaced_where_the_config_is_repeated(tmp_path):
    arg = "form=puq,contrast=t1"
    run = save(tmp_path, config(arg))
    for given in (run, f"{run}/fit"):
        found, replaced = find(given, arg, network__unroll=1)
        assert replaced == [] and found.estimator.design.unroll == 1
    assert find(run, "form=puq,contrast=t1", use="puq")[1] == []


@pytest.mark.parametrize(
    ("arg", "changes", "message"),
    [
        ("form=puq", {}, r"network.consistency 'hard' \(trained: 'cg'\)"),
        ("contrast=t1", {}, r"for data.contrast 't1' \(trained: 't2'\). Leave"),
        ("", {"network__stages": 7}, r"asks for network.stages 7 \(trained: 3\). Le"),
        ("", {"network__subspace__low": 0.1}, "subspace.low 0.1 .*trained: 0.03"),
        ("", {"fit__width": 9}, r"fit.width 9 \(trained: 8\)"),
    ],
)
def test_what_is_asked_for_is_not_replaced(tmp_path, arg, changes, message):
    with pytest.raises(ValueError, match=f"fit: the config .*{message}"):
        find(save(tmp_path, config()), arg, **changes)


def test_bounds_may_be_asked_for_but_not_of_puq_s_regressor(tmp_path):
    run = save(tmp_path, config(fit__bounds=(0.02, 1.0)))
    assert bounds(find(run)[0]) == (0.02, 1.0)
    for use in ("plain", "weighted"):
        found, replaced = find(run, use=use, fit__bounds=(0.03, 0.5))
        assert bounds(found) == (0.03, 0.5) and not replaced
    with pytest.raises(ValueError, match=r"fit.bounds \[0.03, 0.5\] \(trained: \[0.02"):
        find(run, use="puq", fit__bounds=(0.03, 0.5))


@pytest.mark.parametrize("use", ["plain", "weighted", "puq"])
@pytest.mark.parametrize("arg", ["contrast=t1", ""])
def test_what_follows_from_the_contrast_was_not_asked_for(tmp_path, arg, use):
    """A T1 network of unusual bounds and subspace, however the config names it."""
    given = {"fit__bounds": (0.1, 4.0), "network__subspace__high": 3.0}
    run = save(tmp_path, config("contrast=t1", network__subspace__low=0.3, **given))
    found, replaced = find(run, arg, use)
    assert found.contrast == "t1" and bounds(found) == (0.1, 4.0)
    times = found.estimator.quantity.times
    curves = inversion_recovery_basis(
        np.array(times), rank=3, low=0.3, high=3, atoms=400
    )
    np.testing.assert_array_equal(found.estimator.basis, curves.astype(np.float32))
    mine = config(arg)
    assert f"fit.bounds [0.1, 4.0], not {list(mine['fit']['bounds'])}" in replaced
    with pytest.raises(ValueError, match=r"subspace.high 4.0 \(trained: 3.0\). Leave"):
        find(run, arg, use, network__subspace__high=4.0)


def test_t1_bounds_may_be_asked_for_too(tmp_path):
    run = save(tmp_path, config("contrast=t1", fit__bounds=(0.1, 4.0)))
    found, replaced = find(run, "contrast=t1", fit__bounds=(0.2, 3.0))
    assert bounds(found) == (0.2, 3.0) and not replaced
    with pytest.raises(ValueError, match=r"bounds \[0.2, 3.0\] \(trained: \[0.1, 4.0"):
        find(run, "contrast=t1", "puq", fit__bounds=(0.2, 3.0))


def test_a_checkpoint_without_its_description_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no checkpoints; expected"):
        find(str(tmp_path / "none"))
    run = save(tmp_path / "a", config())
    (tmp_path / "a" / "fit" / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="manifest.json: no such file.*copy it"):
        find(run)
    for number, other in enumerate(({"system": "medloc", "data": {}}, {})):
        run = save(tmp_path / f"b{number}", other)
        with pytest.raises(ValueError, match="manifest.json: of a run of .*'puq'"):
            find(run)
    older = config()
    del older["network"]["unroll"], older["network"]["shared"]
    with pytest.raises(ValueError, match='another version .* missing "shared". Train'):
        find(save(tmp_path / "c", older))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "[]", "{}", "3", "null", "[1]", "[{}]", '[{"stage": "fit"}]'),
        *('[{"config": {}}]', '[{"stage": 1, "config": {}}]'),
        '[{"stage": "fit", "config": 3}]',
    ],
)
def test_a_damaged_manifest_is_named_and_the_way_out(tmp_path, text):
    run = save(tmp_path, config())
    (tmp_path / "fit" / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json: .*expected a list.*train it"):
        find(run)


@pytest.mark.parametrize("use", ["weighted", "puq"])
@pytest.mark.parametrize(
    ("section", "name"),
    [("data", n) for n in Measured._fields]
    + [("fit", n) for n in Regression._fields]
    + [("network", "dropout")],
)
def test_a_manifest_with_something_missing_names_it(tmp_path, section, name, use):
    other = config()
    del other[section][name]
    missing = f'of another version .* "{section}": missing "{name}". Train it again'
    with pytest.raises(ValueError, match=missing):
        find(save(tmp_path, other), use=use)


@pytest.mark.parametrize("section", ["data", "fit", "network"])
def test_a_manifest_s_section_that_is_none(tmp_path, section):
    with pytest.raises(ValueError, match="manifest.json: of a run of .*data, network"):
        find(save(tmp_path, config() | {section: 3}))


def test_starts_that_differ_do_not_tell_which_one_trained(tmp_path):
    other = config(train__steps=9, network__unroll=1, evaluation__subjects=7)
    find(save(tmp_path / "a", config(), other))
    run = save(tmp_path / "b", config(), config(fit__normalisation="largest"))
    message = "fit.normalisation is 'first' at one start .* 'largest' at another"
    with pytest.raises(ValueError, match=message):
        find(run)


def test_a_manifest_of_another_version_is_named_with_its_commit(tmp_path):
    older = config()
    older["network"]["depth"] = older["network"].pop("layers")
    run = save(tmp_path, older)
    path = tmp_path / "fit" / "manifest.json"
    starts = json.loads(path.read_text())
    starts[0] |= {"git": "48e6ee2", "versions": {"medjax": "0.1.0"}}
    path.write_text(json.dumps(starts))
    message = r'\(0.1.0, commit 48e6ee2\), .*no option "depth" .*missing "layers"'
    with pytest.raises(ValueError, match=message):
        find(run)

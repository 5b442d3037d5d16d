"""A checkpoint's network is what its manifest says, or an error says why not."""

import json

import pytest

from configs.puq import get_config
from medjax.recipes.puq_trained import DATA, FIT, find_trained
from tests.recipes.puq_smoke import sections


def config(arg="", **changes):
    found = sections(arg, **changes)
    return {name: found[name] for name in ("data", "network", "fit")}


USUAL = sections()["predict"]["usual"]


def test_what_is_usual_is_the_config_without_arguments():
    found = get_config("").to_dict()
    assert USUAL["network"] == found["network"]
    assert USUAL["fit"] == {name: found["fit"][name] for name in FIT}
    assert USUAL["data"] == {name: found["data"][name] for name in DATA}


def save(folder, *configs, stage="fit"):
    """A stage's folder: a record for each start, and nothing in its checkpoints."""
    (folder / stage / "checkpoints").mkdir(parents=True)
    starts = [{"stage": stage, "config": one} for one in configs]
    (folder / stage / "manifest.json").write_text(json.dumps(starts))
    return str(folder)


def find(run, arg="", use="weighted", **changes):
    return find_trained(run, config(arg, **changes), usual=USUAL, use=use)


@pytest.mark.parametrize("arg", ["", "form=puq", "form=modl,contrast=t1"])
def test_the_network_is_the_manifest_s(tmp_path, arg):
    trained_by = config(arg, network__stages=4, data__times=(0.01, 0.1))
    found, replaced = find(save(tmp_path, trained_by))
    assert found.folder == tmp_path / "fit" / "checkpoints" and found.stage == "fit"
    as_json = json.loads(json.dumps(trained_by))
    unrolled = {"unroll": found.network["unroll"]}  # of this config, see SCHEDULING
    assert found.network == as_json["network"] | unrolled
    assert found.fit == {name: as_json["fit"][name] for name in FIT}
    assert found.data["times"] == [0.01, 0.1]
    assert "network.stages 4, not 3" in replaced
    assert ("data.contrast 't1', not 't2'" in replaced) == ("t1" in arg)


def test_nothing_is_replaced_where_the_config_is_repeated(tmp_path):
    arg = "form=puq,contrast=t1"
    run = save(tmp_path, config(arg))
    for given in (run, f"{run}/fit"):
        found, replaced = find(given, arg, network__unroll=1)
        assert replaced == [] and found.network["unroll"] == 1
    assert find(run, "form=puq,contrast=t1", use="puq")[1] == []


@pytest.mark.parametrize(
    ("arg", "changes", "message"),
    [
        ("form=puq", {}, r"network.consistency 'hard' \(trained: 'cg'\)"),
        ("contrast=t1", {}, r"data.contrast 't1' \(trained: 't2'\), fit.norm"),
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
    assert find(run)[0].fit["bounds"] == [0.02, 1.0]
    for use in ("plain", "weighted"):
        found, replaced = find(run, use=use, fit__bounds=(0.03, 0.5))
        assert found.fit["bounds"] == [0.03, 0.5] and not replaced
    with pytest.raises(ValueError, match=r"fit.bounds \[0.03, 0.5\] \(trained: \[0.02"):
        find(run, use="puq", fit__bounds=(0.03, 0.5))


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
    with pytest.raises(ValueError, match="another version .*: network.shared. Train"):
        find(save(tmp_path / "c", older))


def test_starts_that_differ_do_not_tell_which_one_trained(tmp_path):
    other = config(train__steps=9, network__unroll=1, evaluation__subjects=7)
    find(save(tmp_path / "a", config(), other))
    run = save(tmp_path / "b", config(), config(fit__normalisation="largest"))
    message = "fit.normalisation is 'first' at one start .* 'largest' at another"
    with pytest.raises(ValueError, match=message):
        find(run)

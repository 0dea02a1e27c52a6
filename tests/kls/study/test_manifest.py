import json
from types import SimpleNamespace

import pytest

from kls.study.manifest import Manifest, manifest_of, read_manifest, write_manifest
from kls.study.plan import Plan
from kls.study.records import StoreError

NASTY = "python -m kls study \"a b\" '<c>' γ"


def test_what_was_asked_for_comes_back_in_its_order(tmp_path, make_trial, stripes):
    parent, first, second = (make_trial(gamma=gamma) for gamma in (1.0, 0.5, 0.9))
    plan = Plan("mine", (parent, first, second), frozenset([second.id, first.id]))
    sources = SimpleNamespace(datasets={"stripes": stripes, "arrays": SimpleNamespace(name="arrays")})
    manifest = manifest_of(plan, sources, NASTY)
    write_manifest(tmp_path, manifest)
    found = read_manifest(tmp_path)
    assert found == manifest
    assert list(found.asked.items()) == [(first.id, "gamma=0.5"), (second.id, "gamma=0.9")]
    assert found.datasets == {"stripes": str(stripes.path.resolve()), "arrays": None}
    assert (found.study, found.command) == ("mine", NASTY)


def test_without_a_choice_all_trials_were_asked_for(make_trial):
    trials = (make_trial(gamma=1.0), make_trial(gamma=0.9))
    manifest = manifest_of(Plan("mine", trials), SimpleNamespace(datasets={}))
    assert list(manifest.asked) == [trial.id for trial in trials]
    assert manifest.command == ""


def test_an_older_run_has_none(tmp_path):
    assert read_manifest(tmp_path) is None


GOOD = {"study": "a", "asked": {"b": "c"}, "command": "", "datasets": {"d": None}}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "5", "null", json.dumps({"study": "a"}), "[" * 100_000),
        *(json.dumps({**GOOD, name: 5}) for name in GOOD),
        *(json.dumps({**GOOD, "more": 5}), json.dumps({**GOOD, "asked": {"b": 5}})),
        *(json.dumps({**GOOD, "datasets": {"d": 5}}), json.dumps({**GOOD, "datasets": ["d"]})),
    ],
)
def test_a_damaged_one_is_refused(tmp_path, text):
    (tmp_path / "study.json").write_text(json.dumps(GOOD))
    assert read_manifest(tmp_path) == Manifest(**GOOD)
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(StoreError, match=r"study.json is damaged \(.*Delete it"):
        read_manifest(tmp_path)

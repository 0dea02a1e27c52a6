import io

import pandas as pd
import pytest

from kls.study.report.group import Group
from kls.study.report.recipe import caveat_parts, recipe_parts


def texts(parts, kind="text"):
    return [part.text for part in parts if part.kind == kind]


def test_what_is_shared_and_what_each_method_is(group):
    _, shared, methods, *_ = recipe_parts(group, "kls study stripes")
    fields = dict(shared.rows)
    assert (fields["dataset"], fields["batch_size"], fields["flip"]) == ("stripes", "16", "false")
    assert "seed" not in fields
    assert [row[:5] for row in methods.rows] == [
        ("gamma=1", "2", "0, 1", "2", "0.001"),
        ("gamma=0.9", "2", "0, 1", "2", "0.001"),
    ]
    frame = pd.read_csv(io.StringIO(methods.file.text))
    assert frame["seconds"].tolist() == [61.0] * 4
    assert "Training took 4:04 in all" in methods.caption


@pytest.mark.parametrize(
    ("command", "expected"),
    [("", "The study was run from Python."), (None, "The command that trained these networks is not recorded")],
)
def test_without_a_command_a_sentence_says_why(group, command, expected):
    parts = recipe_parts(group, command)
    assert texts(parts, "code") == []
    assert any(text.startswith(expected) for text in texts(parts))


def test_the_command_stands_as_it_was_given(group):
    assert texts(recipe_parts(group, "kls study 'a b'"), "code") == ["kls study 'a b'"]


def test_machines_are_named_each_once_also_where_none_is_recorded(group):
    first, *rest = group.records
    machines = [{**first, "machine": "two cores <b>."}, *({**record, "machine": "one core."} for record in rest)]
    assert texts(recipe_parts(Group(machines, group.store), ""))[1:3] == [
        "Trained on two cores <b>.",
        "Trained on one core.",
    ]
    unknown = texts(recipe_parts(group, ""))
    assert "Trained on a machine that is not recorded." in unknown


def test_caveats_are_told_once_with_the_networks_that_they_are_of(group):
    (caveat,) = caveat_parts(group)
    assert caveat.look == "caveat"
    networks, _, clause = caveat.text.partition(": ")
    assert set(networks.split("; ")) == {"gamma=1, seeds 0, 1", "gamma=0.9, seeds 0, 1"}
    assert clause == "only 12 training steps, with fewer than 200 a network has hardly begun to learn."

import numpy as np
import pytest

from kls.study.methods import CrossEntropy, LabelSmoothing
from kls.study.report.group import Group

from .helpers import LABELS, logits_of


def test_the_verdict_says_which_methods_are_shown_in_detail(group):
    assert group.detailed == ["gamma=1", group.verdict.candidate]
    assert (group.place, group.seeds, group.ood) == ("stripes, resnet8v1", [0, 1], ["far", "near"])


def test_cross_entropy_is_the_baseline_by_whatever_title(finish_methods, store):
    records = finish_methods(dict.fromkeys([LabelSmoothing(0.9), CrossEntropy(title="vanilla")], logits_of))
    found = Group(records, store)
    assert found.baseline == "vanilla"
    assert found.detailed == ["vanilla", "gamma=0.9"]
    assert found.verdict is None


def test_the_network_to_take_is_of_the_verdict_else_of_the_baseline(finish_methods, store):
    methods = {CrossEntropy(): lambda seed: logits_of(seed, 0.5), LabelSmoothing(0.9): lambda seed: logits_of(0, 9)}
    better = Group(finish_methods(methods, seeds=3), store)
    assert better.verdict.method == "gamma=0.9"
    assert (better.chosen["method"], better.chosen["seed"]) == ("gamma=0.9", 0)
    unsure = Group([record for record in better.records if record["seed"] == 0], store)
    assert unsure.verdict.method is None
    assert unsure.chosen["method"] == "gamma=1"


def test_methods_of_other_seeds_are_shown_with_their_own(finish_methods, store):
    records = finish_methods(seeds=3)
    apart = [one for one in records if (one["gamma"] == 1) == (one["seed"] == 2)]
    found = Group(apart, store)
    assert (found.verdict, found.compared) == (None, None)
    assert found.no_verdict == "There is no verdict: the methods share no seed."
    assert found.first_seeds == "seeds 2 and 0"
    assert Group(records, store).first_seeds == "seed 0"


def test_guesses_are_those_of_all_networks_in_detail(group):
    labels, guesses = group.guesses()
    np.testing.assert_array_equal(labels, LABELS)
    assert list(guesses) == ["gamma=1", "gamma=0.9"]
    np.testing.assert_array_equal(guesses["gamma=1"][1], logits_of(1).argmax(axis=1))


@pytest.mark.parametrize("has_images", [True, False])
def test_classes_are_named_where_the_dataset_is_there(group, stripes, has_images):
    found = group if has_images else Group(group.records, group.store)
    assert found.class_names == (list(stripes.class_names) if has_images else ["0", "1", "2"])

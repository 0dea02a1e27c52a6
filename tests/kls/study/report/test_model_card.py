import json

import numpy as np
import pytest

from kls.ood import fpr_at_tpr
from kls.ood.scores import msp
from kls.study.methods import CrossEntropy, LabelSmoothing
from kls.study.report.group import Group
from kls.study.report.model_card import model_card

from .helpers import logits_of

NASTY = 'a: "b" | <script>\n- c'


def parts(card):
    """Returns the YAML head and the Markdown of a card."""
    start, head, body = card.text.split("---\n", 2)
    assert start == ""
    return head, body


def test_the_head_is_yaml_with_the_measured_results(group):
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load(parts(model_card(group, ""))[0])
    assert (head["library_name"], head["pipeline_tag"]) == ("keras", "image-classification")
    assert (head["datasets"], head["metrics"]) == (["stripes"], ["accuracy", "ece", "nll", "brier", "auroc", "fpr95"])
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {"name": "stripes", "type": "stripes", "split": "test"}
    found = {metric["name"]: metric["value"] for metric in result["metrics"]}
    record = group.chosen
    assert found["accuracy"] == pytest.approx(record["accuracy_last"])
    assert found["ECE"] == pytest.approx(record["ece"])
    assert found["AUROC against far"] == pytest.approx(record["auroc_far"])


def test_titles_are_json_strings_which_yaml_reads_as_they_are(finish_methods, store):
    methods = {LabelSmoothing(0.9, title=NASTY): logits_of}
    found = Group(finish_methods(methods, seeds=1), store)
    head, body = parts(model_card(found, ""))
    (line,) = [line for line in head.splitlines() if line.startswith("- name: ")]
    assert json.loads(line.removeprefix("- name: ")) == f"resnet8v1 on stripes, {NASTY}, seed 0"
    assert "<script>" not in body
    assert "\n- c" not in body


def test_numbers_stand_with_n_and_their_intervals(group):
    _, body = parts(model_card(group, "kls study stripes"))
    rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
    record = group.chosen
    accuracy = {row[0]: row[1:] for row in rows}["accuracy (%)"]
    assert accuracy[0].startswith(f"{100 * record['accuracy_last']:.2f} [")
    alike = group.by_method[record["method"]].values()
    values = [100 * one["accuracy_last"] for one in alike]
    assert accuracy[1] == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} (n = 2)"
    fpr = {row[0]: row[2] for row in rows}["FPR at 95 % TPR against near (%)"]
    frame = [fpr_at_tpr(*(msp(group.outputs(one, name)[0]) for name in (None, "near"))) for one in alike]
    assert fpr == f"{100 * np.mean(frame):.2f} ± {100 * np.std(frame, ddof=1):.2f} (n = 2)"
    assert "On 41 test images" in body
    assert "\n    kls study stripes\n" in body
    for heading in ("## Training", "## Evaluation", "## Limits"):
        assert heading in body
    assert "only 12 training steps" in body


def test_it_is_a_file_beside_the_page(group):
    card = model_card(group, "")
    assert (card.file.name, card.file.text) == ("model_card.md", card.text)
    assert card.caption == f"A model card for the network of {group.chosen['method']}, seed 0."


def test_what_has_not_been_measured_is_said(finish_methods, store):
    found = Group(finish_methods({CrossEntropy(): logits_of}, seeds=1, ood=()), store)
    assert "What it makes of images of no class of its own has not been measured." in model_card(found, "").text

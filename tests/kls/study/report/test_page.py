import numpy as np
import pandas as pd
import pytest

from kls.study.judging import verdict_of
from kls.study.methods import CrossEntropy, LabelSmoothing
from kls.study.report.comparisons import comparison_table
from kls.study.report.page import study_page

from ...pages.helpers import parsed
from .helpers import logits_of

HEADINGS = [
    *("Verdict", "What each method costs", "Tables", "Reliability", "Out-of-distribution detection", "Classes"),
    *("Images to look at", "Recipe", "Model card"),
]
NASTY = "<script>alert(\"1\")</script> | 'a'\n$b_1$"


@pytest.fixture
def write(store, stripes, tmp_path):
    """Returns a function that writes the page of records, and returns what it is parsed to."""

    def give(records, name="report.html", dataset=stripes, **options):
        page = study_page(records, store, lambda record: (dataset, "It is gone."), **options)
        page.write(tmp_path / name)
        return parsed(tmp_path / name)

    return give


pytestmark = pytest.mark.usefixtures("undrawn")


def csv(tmp_path, name):
    return pd.read_csv(tmp_path / "report" / f"{name}.csv")


def test_the_verdict_comes_first_and_what_it_stands_on_after_it(finish_methods, write, store):
    records = finish_methods()
    found = write(records, command="kls study 'a b' --seeds 2")
    verdict = verdict_of(records, store)
    assert found.texts("h3") == HEADINGS
    leads = [text for _, attributes, text in found.found if attributes.get("class") == "lead"]
    assert leads == [verdict.headline]
    assert set(verdict.notes) <= set(found.texts("p"))
    rows = [(line.comparison.word, line.correction) for line in verdict.lines]
    assert [(row[-1].partition(" (")[0], row[1]) for row in found.tables()[0][1:]] == rows
    assert "kls study 'a b' --seeds 2" in found.texts("pre")
    assert found.fetched == []


def test_the_data_are_the_numbers_of_the_tables(finish_methods, write, store, tmp_path):
    records = finish_methods()
    found = write(records)
    _, compared = comparison_table(pd.DataFrame(records), store)
    _, lines = verdict_of(records, store).table()
    for name, frame in (("comparison", compared), ("verdict", lines)):
        columns = ["difference", "low", "high", "n"]
        np.testing.assert_allclose(csv(tmp_path, name)[columns], frame[columns].astype(float), rtol=1e-12)
    means = pd.DataFrame(records).groupby("method")["ece"].mean()
    by_method = csv(tmp_path, "calibration").set_index("method")["ece_mean"]
    np.testing.assert_allclose(by_method[means.index], means)
    linked = {value for value in found.attributes("href") if not value.startswith("#")}
    assert linked == {f"report/{path.name}" for path in (tmp_path / "report").iterdir()}


def test_the_same_run_gives_the_same_bytes(finish_methods, write, tmp_path):
    records = finish_methods()
    write(records)
    write(records, "again/report.html")
    assert (tmp_path / "report.html").read_bytes() == (tmp_path / "again" / "report.html").read_bytes()
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_names_of_methods_and_classes_are_shown_as_they_are(finish_methods, write, stripes, tmp_path):
    methods = {CrossEntropy(): logits_of, LabelSmoothing(0.9, title=NASTY): lambda seed: logits_of(seed, 1.5)}
    named = type(stripes)(stripes.name, stripes.path, {**stripes.meta, "class_names": ["=1", "<b>", '"']})
    found = write(finish_methods(methods), dataset=named)
    shown = " ".join(NASTY.split())
    assert {"script", "b"}.isdisjoint(tag for tag, _, _ in found.found)
    assert shown in [cell for table in found.tables() for row in table for cell in row]
    assert {"=1", "<b>", '"'} == set(csv(tmp_path, "classes")["class"].str.removeprefix("'"))
    assert found.fetched == []


def test_one_seed_names_no_winner(finish_methods, write):
    methods = {CrossEntropy(): lambda seed: logits_of(seed, 0.1), LabelSmoothing(0.9): lambda seed: logits_of(seed, 9)}
    found = write(finish_methods(methods, seeds=1))
    words = {attributes.get("class") for tag, attributes, _ in found.found if tag in ("td", "span")}
    assert words & {"better", "worse", "same"} == set()
    assert "One seed does not tell one way to train from another." in " ".join(found.texts("p"))


def test_one_method_alone_has_no_verdict_and_says_why(finish_methods, write):
    found = write(finish_methods({LabelSmoothing(0.9): logits_of}))
    assert found.texts("h3") == [heading for heading in HEADINGS if heading != "What each method costs"]
    paragraphs = found.texts("p")
    assert "There is no verdict: gamma=0.9 is the only method with finished trials." in paragraphs
    assert "Nothing is compared here: it takes cross-entropy, another method and a seed of both." in paragraphs


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ([LabelSmoothing(0.9), LabelSmoothing(0.7)], "cross-entropy, to which methods are compared, is not among"),
        ([CrossEntropy(title="vanilla"), LabelSmoothing(0.9)], "which needs a method called gamma=1; see the differ"),
    ],
)
def test_without_a_baseline_of_that_name_a_sentence_says_so(finish_methods, write, methods, expected):
    found = write(finish_methods(dict.fromkeys(methods, logits_of)))
    assert any(expected in text for text in found.texts("p"))
    assert ("What each method costs" in found.texts("h3")) == (methods[0].gamma == 1)


def test_without_ood_data_images_or_all_trials_sentences_say_so(finish_methods, write, store):
    store.left_out.append("a trial is damaged <b>")
    found = write(finish_methods(ood=()), dataset=None, unfinished=3)
    paragraphs = found.texts("p")
    assert "There is nothing on OOD images: no OOD dataset was given that all networks have seen." in paragraphs
    assert "There are no images to show: It is gone." in paragraphs
    assert "Not finished, or damaged: 3 of 7 trials that were asked for." in paragraphs
    assert "Left out: a trial is damaged <b>" in paragraphs


def test_each_network_has_a_chapter_with_files_of_its_own(finish_methods, write, tmp_path):
    finish_methods()
    found = write(finish_methods(model="resnet14v1"))
    assert found.texts("h2") == ["1. stripes, resnet14v1", "2. stripes, resnet8v1"]
    assert found.texts("h3") == HEADINGS * 2
    assert found.texts("li")[0] == "1. stripes, resnet14v1: Should you smooth the labels? Cannot tell."
    ids = found.attributes("id")
    assert len(ids) == len(set(ids))
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"1-stripes-resnet14v1-model_card.md", "2-stripes-resnet8v1-model_card.md"} <= names


def test_recipes_that_differ_are_not_mixed(finish_methods, write):
    finish_methods()
    found = write(finish_methods(epochs=3))
    assert found.texts("h2") == ["1. stripes, resnet8v1", "2. stripes, resnet8v1"]

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import kls

from ..pages.helpers import parsed
from .helpers import identity

SIDE = 3
LOGITS = np.random.default_rng(8).normal(0, 2, (60, SIDE)).astype("float32")
LABELS = np.where(np.arange(60) < 45, LOGITS.argmax(axis=1), (LOGITS.argmax(axis=1) + 1) % 3)
IMAGES = np.random.default_rng(1).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
NAMES = ["<script>cat</script>", "dog & 'co'", "=bird|"]


@pytest.fixture(scope="module")
def evaluation():
    rng = np.random.default_rng(4)
    ood = {"<b>near</b>": rng.normal(0, 1, (40, 3)).astype("float32"), "$far$": np.zeros((20, 3), "float32")}
    given = {"scores": ["energy", "msp"], "scaling": "temperature", "resamples": 20}
    return kls.evaluate(identity(3), (LOGITS, LABELS), ood=ood, **given)


@pytest.fixture(scope="module")
def page(evaluation, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    evaluation.save_report(path, IMAGES, NAMES)
    return parsed(path), path


def csv(page, name):
    return pd.read_csv(page[1].with_suffix("") / f"{name}.csv")


def pixels(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image)


def test_parts_stand_in_their_order_the_answer_first(page, evaluation):
    headings = ["What was found", "Calibration", "Out-of-distribution detection", "Classes", "Images to look at"]
    assert page[0].texts("h3") == headings
    leads = [text for tag, attributes, text in page[0].found if attributes.get("class") == "lead"]
    headline = evaluation.headline
    assert leads == [f"{headline[0].upper()}{headline[1:]}."]
    assert [text for text in page[0].texts("p") if text in evaluation.remarks] == evaluation.remarks


def test_names_are_shown_as_they_are_and_nothing_is_fetched(page):
    tags = {tag for tag, _, _ in page[0].found}
    assert "script" not in tags
    assert "b" not in tags
    assert page[0].fetched == []
    assert {row[0] for row in page[0].tables()[3][1:]} == set(NAMES)
    assert "<b>near</b>" in page[0].tables()[1][0]
    assert any("$far$: AUROC" in text for text in page[0].texts("text"))


def test_tables_are_those_of_the_evaluation(page, evaluation):
    for found, (_, header, lines) in zip(page[0].tables(), evaluation._tables(("auroc", "fpr95")), strict=False):
        assert found == [list(map(str, line)) for line in (header, *lines)]


def test_the_csv_holds_the_numbers_of_the_frame(page, evaluation):
    frame = evaluation.to_frame()
    np.testing.assert_array_equal(csv(page, "metrics")["value"], frame["value"])
    assert csv(page, "metrics")["data"].dropna().unique().tolist() == ["<b>near</b>", "$far$", "mean"]
    links = [value for value in page[0].attributes("href") if not value.startswith("#")]
    assert sorted(links) == sorted(f"report/{path.name}" for path in page[1].with_suffix("").iterdir())


def test_images_are_those_that_are_wrong_with_most_confidence(page):
    confidence = np.exp(LOGITS).max(axis=1) / np.exp(LOGITS).sum(axis=1)
    expected = sorted(range(45, 60), key=lambda index: -confidence[index])[:12]
    assert csv(page, "wrong")["index"].tolist() == expected
    sources = page[0].attributes("src")
    for uri, index in zip(sources[:12], expected, strict=True):
        np.testing.assert_array_equal(pixels(uri), IMAGES[index])


def test_images_of_the_lowest_score_come_next(page):
    energy = np.log(np.exp(LOGITS.astype(float)).sum(axis=1))
    expected = np.argsort(energy, kind="stable")[:12]
    assert csv(page, "unusual")["index"].tolist() == expected.tolist()
    np.testing.assert_allclose(csv(page, "unusual")["energy"], energy[expected], rtol=1e-5)
    for uri, index in zip(page[0].attributes("src")[12:], expected, strict=True):
        np.testing.assert_array_equal(pixels(uri), IMAGES[index])


def test_recall_is_that_of_each_class(page):
    frame = csv(page, "classes")
    assert frame["n"].tolist() == np.bincount(LABELS).tolist()
    right = LOGITS.argmax(axis=1) == LABELS
    np.testing.assert_allclose(frame["recall as trained"], [right[label == LABELS].mean() for label in range(3)])


def test_the_same_evaluation_gives_the_same_bytes(page, evaluation, tmp_path):
    evaluation.save_report(tmp_path / "report.html", IMAGES, NAMES)
    assert (tmp_path / "report.html").read_bytes() == page[1].read_bytes()
    assert page[1].stat().st_size < 500_000


def test_without_images_names_or_ood_data_a_sentence_says_so(tmp_path):
    evaluation = kls.evaluate(identity(3), (LOGITS, LOGITS.argmax(axis=1)))
    evaluation.save_report(tmp_path / "page.html")
    found = parsed(tmp_path / "page.html")
    assert found.texts("h3") == ["What was found", "Calibration", "Classes", "Images to look at"]
    assert "There are no images to show: `save_report` was not given `images`." in found.texts("p")
    assert "No sample is wrong." in found.texts("p")
    assert {row[0] for row in found.tables()[1][1:]} == {"0", "1", "2"}
    assert found.attributes("src") == []


def test_the_title_of_a_diagram_says_its_temperature(evaluation):
    figure = evaluation.plot_reliability("temperature")
    title = figure.axes[0].get_title()
    figure.draw_without_rendering()
    place = figure.axes[0].title.get_window_extent()
    assert figure.bbox.x0 <= place.x0 < place.x1 <= figure.bbox.x1
    assert title.startswith("Reliability, temperature scaling\neach half")
    _, _, temperatures = evaluation.scaling_note.partition("(T = ")
    assert temperatures.removesuffix(").") in " ".join(title.split())
    assert evaluation.plot_reliability().axes[0].get_title() == "Reliability"

import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from kls.pages.figures import svg_of

NASTY = '<script>alert("1")</script> & $x_1$ "#ffffff" <!-- -->'


def draw(title="a title"):
    figure = Figure(figsize=(4, 3))
    panel = figure.subplots()
    panel.plot([0, 1, 2], [0, 1, 0], "o-", color="tab:blue")
    panel.bar([0], [1], color="tab:red", edgecolor="white")
    panel.set_title(title)
    panel.set_clip_on(True)
    return figure


def test_it_is_an_svg_without_prolog_metadata_or_style():
    text = svg_of("one", draw)
    assert text.startswith("<svg")
    assert "metadata" not in text
    assert "xmlns" not in text
    assert "<style" not in text


@pytest.mark.parametrize("title", ["plain", NASTY])
def test_text_stays_text_whatever_it_holds(title):
    root = ElementTree.fromstring(svg_of("one", lambda: draw(title)))
    assert title in [element.text for element in root.iter("text")]
    assert list(root.iter("script")) == []


def test_the_same_figure_has_the_same_bytes():
    assert svg_of("one", draw) == svg_of("one", draw)


def test_ids_of_two_figures_differ_and_references_meet_them():
    texts = [svg_of(name, draw) for name in ("one", "two")]
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in texts]
    assert ids[0].isdisjoint(ids[1])
    for text, own in zip(texts, ids, strict=True):
        found = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
        assert found
        assert {first or second for first, second in found} <= own


def test_colours_are_the_pages_own_so_that_dark_mode_has_them():
    text = svg_of("one", draw)
    assert {"var(--blue)", "var(--red)", "var(--ground)", "currentColor"} <= set(
        re.findall(r"var\(--\w+\)|currentColor", text)
    )
    assert re.findall(r"#[0-9a-f]{6}\b", text) == []

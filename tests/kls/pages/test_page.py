import pandas as pd
import pytest

from kls.pages.page import Cell, Chapter, Code, Figures, File, Grid, Page, Picture, Pictures, Section, Text

from .helpers import parsed

NASTY = '<script>alert("1")</script> & "b" | \'c\'\n</pre></style>'
PIXEL = "data:image/png;base64,AAAA"


def page_of(*parts, title="A page", chapters=1):
    section = Section("One", parts)
    return Page(title, (Text("before"),), tuple(Chapter(f"Chapter {i}", (section,)) for i in range(chapters)))


def write(tmp_path, page):
    page.write(tmp_path / "report.html")
    return parsed(tmp_path / "report.html")


def test_parts_stand_in_their_order_under_their_headings(tmp_path):
    page = page_of(Text("first"), Code("second"), Text("third", "note"))
    found = write(tmp_path, page)
    assert (found.texts("h1"), found.texts("h2"), found.texts("h3")) == (["A page"], ["Chapter 0"], ["One"])
    assert found.texts("section") == ["One first second third"]
    assert found.texts("p")[:2] == ["before", "first"]


def test_whatever_texts_hold_they_are_shown_and_nothing_else(tmp_path):
    grid = Grid(NASTY, (NASTY,), ((NASTY,), (Cell(NASTY, "better"),)), notes=(NASTY,))
    pictures = Pictures((Picture(PIXEL, (NASTY,), True),), NASTY)
    figures = Figures(((NASTY, "<svg></svg>"),), NASTY, key=(("better", NASTY),))
    found = write(tmp_path, page_of(Text(NASTY), grid, pictures, figures, Code(NASTY, NASTY), title=NASTY))
    shown = " ".join(NASTY.split())
    assert "script" not in [tag for tag, _, _ in found.found]
    assert found.tables() == [[[shown], [shown], [shown]]]
    assert found.texts("title") == found.texts("h1") == [shown]
    assert found.texts("pre") == [shown]
    assert NASTY in found.attributes("aria-label")
    assert found.attributes("alt") == [""]


def test_a_page_fetches_nothing_and_says_so_to_the_browser(tmp_path):
    found = write(tmp_path, page_of(Pictures((Picture(PIXEL, ("a",), True),), "")))
    assert found.fetched == []
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in found.attributes("content")


def test_data_are_written_beside_the_page_and_linked(tmp_path):
    frame = pd.DataFrame({"=name": ["=1+1", "b,c"], "value": [0.1, 2.0]})
    file = File.of_frame("a b", frame)
    found = write(tmp_path, page_of(Grid("", (), (), file), Figures((), "", file)))
    assert found.attributes("href") == ["report/a%20b.csv"] * 2
    assert (tmp_path / "report" / "a b.csv").read_text() == "'=name,value\n'=1+1,0.1\n\"b,c\",2.0\n"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a b.csv", "report.html"]


def test_words_are_coloured_and_spelled(tmp_path):
    found = write(tmp_path, page_of(Grid("", ("verdict",), ((Cell("worse", "worse"),), ("plain",)))))
    cells = [(attributes.get("class"), text) for tag, attributes, text in found.found if tag == "td"]
    assert cells == [("worse", "worse"), (None, "plain")]


def test_several_chapters_are_listed_one_is_not(tmp_path):
    assert write(tmp_path, page_of(chapters=2)).attributes("href") == ["#chapter-1", "#chapter-2"]
    assert write(tmp_path, page_of()).attributes("href") == []


@pytest.mark.parametrize("path", ["report", "report.txt", "", None, 5])
def test_a_path_that_is_no_html_file_is_refused(path):
    with pytest.raises(ValueError, match=r"`path` must .* Received: path="):
        page_of().write(path)

import re

import numpy as np
import pandas as pd
import pytest

from kls.study.report.tables import DEVIATION, Bold, Table, named_rows, percent

TABLE = Table("name", "A caption.", ("set", "γ=1"), (("a_b", Bold("97.50 ± 0.10")), ("50 %", "–")), notes=("A note.",))


def test_markdown():
    assert TABLE.markdown() == (
        "A caption.\n\n| set  | γ=1              |\n|:-----|:-----------------|\n"
        "| a_b  | **97.50 ± 0.10** |\n| 50 % | –                |\n\nA note.\n"
        "\n±: standard deviation over the networks of a cell, with n - 1 in the denominator; published ones as "
        "printed.\n"
    )


def test_names_stand_before_rows_and_blank_ones_if_there_are_more():
    assert named_rows(("set", "net"), [("a",), ("b",), ("c",)]) == [("set", "a"), ("net", "b"), ("", "c")]
    assert named_rows(("set", "net"), [("a", "1")]) == [("set", "a", "1"), ("net", "", "")]


def test_printed_sentences_are_filled_and_rows_stay_whole(tmp_path, capsys):
    table = Table("name", "A word. " * 40, ("heading " * 20,), (("cell",),))
    table.show(tmp_path, pd.DataFrame())
    caption, heading, _, cell = capsys.readouterr().out.strip().replace("\n\n", "\n|").rsplit("\n", 3)
    assert caption.split() == ["A", "word."] * 40
    assert max(map(len, caption.splitlines())) <= 100
    assert len(heading.strip("|")) == len(cell.strip("|")) > 100


def test_a_deviation_is_defined_where_there_is_one_alone():
    single = Table("name", "A caption.", ("set",), (("97.50",), (Bold("96.00"),)))
    assert "±" not in single.markdown()
    assert "pm" not in single.latex()
    assert r"\par $\pm$: standard deviation" in TABLE.latex()
    assert TABLE.markdown().count(DEVIATION) == 1


def test_latex_escapes_and_sets_bold():
    latex = TABLE.latex()
    assert r"a\_b & \textbf{97.50 $\pm$ 0.10}" in latex.replace("   ", " ").replace("  ", " ")
    assert r"50 \% & --" in " ".join(latex.split())
    assert r"$\gamma$=1" in latex


NAMES = (
    "a|b",
    "<b>x</b>",
    "&lt;",
    "two\nlines",
    "a\\|b",
    "*x* `y`",
    "{}~^\\$%#_&",
    "=1+1",
    "-cmd",
    "@x",
    "\tx",
    "-1.5",
)
NAMED = Table("name", "A <i>\n%.", ("set|", "=n"), tuple((name, Bold(name)) for name in NAMES), notes=("<b>\n",))


class TestNamesThatMeanSomethingToAFormat:
    def test_in_markdown_each_stays_a_cell_without_tags(self):
        lines = NAMED.markdown().splitlines()
        assert (lines[0], lines[-1]) == ("A &lt;i> %.", "&lt;b>")
        cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)][1:-1] for line in lines[2:-2]]
        assert cells[0] == [r"set\|", "=n"]
        shown = [r"a\|b", "&lt;b>x&lt;/b>", "&amp;lt;", "two lines", r"a\\\|b", r"\*x\* \`y\`", r"{}~^\\$%#_&"]
        assert [cell for cell, _ in cells[2:9]] == shown
        assert all(bold == f"**{cell}**" for cell, bold in cells[2:9])

    def test_in_latex_each_is_text(self):
        latex = NAMED.latex()
        assert latex.startswith("% A <i> \\%.\n")
        assert r"\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\$\%\#\_\& " in latex
        assert "two lines" in latex

    def test_in_csv_none_is_a_formula_and_numbers_are_numbers(self, tmp_path):
        NAMED.write(tmp_path, pd.DataFrame({"=n": NAMES, "number": np.linspace(-1, 1, len(NAMES))}))
        frame = pd.read_csv(tmp_path / "name.csv", dtype=str)
        assert list(frame) == ["'=n", "number"]
        assert list(frame["'=n"]) == [*NAMES[:7], "'=1+1", "'-cmd", "'@x", "'\tx", "-1.5"]
        assert list(frame["number"].astype(float)) == list(np.linspace(-1, 1, len(NAMES)))


def test_three_files_are_written(tmp_path):
    TABLE.write(tmp_path, pd.DataFrame({"set": ["a_b"], "mean": [0.975]}))
    assert (tmp_path / "name.md").read_text() == TABLE.markdown()
    assert (tmp_path / "name.tex").read_text() == TABLE.latex()
    assert (tmp_path / "name.csv").read_text() == "set,mean\na_b,0.975\n"


@pytest.mark.parametrize(
    ("values", "text"), [([0.975], "97.50"), ([0.9, 0.8], "85.00 ± 7.07"), ([0.5, 0.5, 0.5], "50.00 ± 0.00")]
)
def test_percent_gives_the_sample_deviation_where_there_is_one(values, text):
    assert percent(pd.Series(values)) == text

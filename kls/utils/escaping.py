"""Texts as cells of tables: whatever a name holds, it stays one cell and is shown as it is."""

import re

LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%#_${}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"±": r"$\pm$", "γ": r"$\gamma$", "α": r"$\alpha$", "→": r"$\rightarrow$", "–": "--"},
    }
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escape_html(text):
    """Returns a text of one line without HTML's tags and entities.

    Example:

    >>> print(escape_html("Lee & Cheon: a <b> &amp; c"))
    Lee & Cheon: a &lt;b> &amp;amp; c
    """
    return re.sub(r"&(?=#?\w+;)", "&amp;", _one_line(text)).replace("<", "&lt;")


def escape_markdown(text):
    r"""Returns a text as a cell of a Markdown table.

    Example:

    >>> print(escape_markdown("a|b *c* <i>"))
    a\|b \*c\* &lt;i>
    """
    return re.sub(r"[\\|*`]", r"\\\g<0>", escape_html(text))


def escape_latex(text):
    r"""Returns a text as LaTeX.

    Example:

    >>> print(escape_latex("50 % of a_b"))
    50 \% of a\_b
    """
    return _one_line(text).translate(LATEX)


def escape_csv(value):
    """Returns a value as a cell that spreadsheets do not take for a formula: a number as it is.

    Example:

    >>> escape_csv("=1+1"), escape_csv("-1.5"), escape_csv(-1.5)
    ("'=1+1", '-1.5', -1.5)
    """
    if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def csv_of(frame):
    """Returns a `pandas.DataFrame` as CSV, its texts and the names of its columns by `escape_csv`."""
    return frame.map(escape_csv).rename(columns=escape_csv).to_csv(index=False)


def _one_line(text):
    return " ".join(text.splitlines())


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True

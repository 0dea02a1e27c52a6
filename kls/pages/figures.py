"""Figures of Matplotlib as SVG within a page: text stays text, and colours are the page's, dark mode's too."""

import io
import re
from xml.etree import ElementTree

STYLE = {"svg.fonttype": "none", "text.parse_math": False, "path.simplify_threshold": 0.5, "font.size": 10}
COLORS = {
    "#000000": "currentColor",
    "#ffffff": "var(--ground)",
    "#9ec9e8": "var(--bar)",
    "#1f77b4": "var(--blue)",
    "#ff7f0e": "var(--orange)",
    "#2ca02c": "var(--green)",
    "#d62728": "var(--red)",
    "#9467bd": "var(--purple)",
    "#8c564b": "var(--brown)",
    "#e377c2": "var(--pink)",
    "#bcbd22": "var(--olive)",
    "#17becf": "var(--cyan)",
    **dict.fromkeys(("#7f7f7f", "#999999", "#666666", "#595959", "#b0b0b0", "#cccccc"), "var(--grey)"),
}
LEFT_OUT = ("metadata", "style")


def svg_of(name, draw):
    """Returns a figure as the text of an `<svg>` element, the same for the same figure.

    Args:
        name: What its ids begin with: no two figures of a page may share it.
        draw: Function that returns the `matplotlib.figure.Figure`.
    """
    import matplotlib

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        file = io.StringIO()
        draw().savefig(file, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if _plain(child.tag) in LEFT_OUT:
                parent.remove(child)
    for element in root.iter():
        element.tag = _plain(element.tag)
        values = {_plain(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _value(name, key, value) for key, value in values.items()})
    return ElementTree.tostring(root, encoding="unicode")


def _plain(tag):
    """Returns a name without its namespace."""
    return tag.rpartition("}")[2]


def _value(name, key, value):
    """Returns the value of an attribute, with ids and colours of the page's own."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    value = value.replace("url(#", f"url(#{name}-")
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: COLORS.get(found[0], found[0]), value)

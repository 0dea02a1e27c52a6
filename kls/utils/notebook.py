"""What a notebook shows of an object."""

from html import escape


def facts_html(title, facts):
    """Returns a title and a table of names and values as HTML, escaped.

    Args:
        title: Text above the table.
        facts: `{name: value}`, shown by `str`.

    Example:

    >>> facts_html("MSP", {"fitted": False})
    '<b>MSP</b><table><tr><td>fitted</td><td>False</td></tr></table>'
    """
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in facts.items()
    )
    return f"<b>{escape(title)}</b><table>{rows}</table>"

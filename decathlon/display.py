"""How objects show themselves: in one line, and in a notebook as a table."""

from html import escape


class Shown:
    """What shows itself by the facts that its `_facts()` returns as `{name: value}`, none of them an array."""

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._facts().items())})"

    def _repr_html_(self):
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in self._facts().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"

"""A page as a reader has it: its elements by Python's own parser, and what it would fetch."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "hr"}
FETCHED = {"src", "data", "poster", "srcset", "action", "background"}


class Parsed(HTMLParser):
    """The elements of a page.

    Attributes:
        found: `(tag, attributes, text within)` of every element, in their order.
        fetched: Addresses that a browser would fetch by itself.
    """

    def __init__(self, text):
        super().__init__()
        self.found, self.fetched, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag, attributes):
        element = [tag, dict(attributes), ""]
        self.found.append(element)
        addresses = [value for name, value in attributes if name in FETCHED or (name == "href" and tag == "link")]
        self.fetched += [value for value in addresses if not value.startswith("data:")]
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def texts(self, tag):
        """Returns the text of each element of a tag, on one line."""
        return [" ".join(text.split()) for name, _, text in self.found if name == tag]

    def attributes(self, name):
        """Returns all values of an attribute."""
        return [attributes[name] for _, attributes, _ in self.found if name in attributes]

    def tables(self):
        """Returns each table as a list of rows of texts."""
        tables = []
        for tag, _, text in self.found:
            if tag == "table":
                tables.append([])
            elif tag == "tr":
                tables[-1].append([])
            elif tag in ("td", "th"):
                tables[-1][-1].append(" ".join(text.split()))
        return tables


def parsed(path):
    return Parsed(path.read_text("utf-8"))

"""A page as its elements, read with the standard library."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

EMPTY = {"meta", "br", "hr", "input", "link", "img"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    parent: Element | None
    children: list[Element] = field(default_factory=list)
    own: list[str] = field(default_factory=list)  # text directly in it

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    @property
    def text(self) -> str:
        """All text in it, blanks as one."""
        return " ".join(" ".join([*self.own, *(child.text for child in self.children if child.name not in ("script", "style"))]).split())

    def all(self, name: str | None = None, class_: str | None = None) -> list[Element]:
        """Elements below it, in the order of the page."""
        found = []
        for child in self.children:
            if (name is None or child.name == name) and (class_ is None or class_ in child.classes):
                found.append(child)
            found += child.all(name, class_)
        return found

    def one(self, name: str | None = None, class_: str | None = None) -> Element:
        return self.all(name, class_)[0]


class _Parser(HTMLParser):
    def __init__(self, strict: bool):
        super().__init__(convert_charrefs=True)
        self.strict = strict
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag, attrs):
        made = Element(tag, {key: value or "" for key, value in attrs}, self.here)
        self.here.children.append(made)
        if tag not in EMPTY:
            self.here = made

    def handle_endtag(self, tag):
        if self.strict:
            assert tag == self.here.name, f"</{tag}> closes <{self.here.name}>"
        while self.here.name != tag and self.here.parent is not None:
            self.here = self.here.parent
        self.here = self.here.parent or self.root

    def handle_data(self, data):
        self.here.own.append(data)


def parse(text: str, *, strict: bool = True) -> Element:
    """The root of the page. strict: every element must be closed, in the right order."""
    parser = _Parser(strict)
    parser.feed(text)
    parser.close()
    assert not strict or parser.here is parser.root, f"<{parser.here.name}> is not closed"
    return parser.root

"""What JupyterLab lets through of HTML that a notebook has not been trusted with.

After `packages/apputils/src/sanitizer.ts` of JupyterLab: tags, attributes and styles.
"""

import re
from html.parser import HTMLParser

TAGS = {
    *("div", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "details"),
    *("summary", "pre", "img", "p", "code", "small"),
}
ATTRIBUTES = {
    "*": {"style", "title"},
    "details": {"open"},
    "td": {"colspan"},
    "th": {"scope"},
    "img": {"alt", "src", "width", "height"},
}
_LENGTH = r"(0|[+]?([0-9]*[.])?[0-9]+(px|em|rem|ex|in|cm|mm|pt|pc|%))"
_COLOUR = r"\#(0x)?[0-9a-f]+"
STYLES = {
    "background-color": _COLOUR,
    "border-collapse": "collapse",
    "border-radius": _LENGTH,
    "border-top": rf"((thin|{_LENGTH}|solid|{_COLOUR})\s*){{1,3}}",
    "color": _COLOUR,
    "font-size": _LENGTH,
    "font-weight": "[1-9]00",
    "line-height": r"[0-9.]+",
    "margin": rf"(({_LENGTH})\s*){{1,4}}",
    "margin-top": _LENGTH,
    "max-width": _LENGTH,
    "padding": rf"(({_LENGTH})\s*){{1,4}}",
    "text-align": "left|right|center|justify",
    "white-space": "normal|pre|nowrap|pre-wrap|pre-line",
}
VOID = {"img"}


class Sanitizer(HTMLParser):
    def __init__(self):
        super().__init__()
        self.refused = []
        self.text = []
        self.open = []
        self.images = []

    def handle_starttag(self, tag, attrs):
        if tag not in TAGS:
            self.refused.append(tag)
        for name, value in attrs:
            if name not in ATTRIBUTES["*"] | ATTRIBUTES.get(tag, set()):
                self.refused.append(f"{tag} {name}")
            if name == "style":
                self.check_style(value)
            if name == "src":
                self.images.append(value)
                if not value.startswith("data:image/svg+xml"):
                    self.refused.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def check_style(self, style):
        for each in style.split(";"):
            name, _, value = each.partition(":")
            if not re.fullmatch(STYLES.get(name.strip(), "(?!)"), value.strip()):
                self.refused.append(each)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.refused.append(f"</{tag}>")

    def handle_data(self, data):
        self.text.append(data)


def passed(html: str) -> Sanitizer:
    """Return the HTML as read, after checking that all of it passes."""
    sanitizer = Sanitizer()
    sanitizer.feed(html)
    sanitizer.close()
    assert not sanitizer.refused
    assert not sanitizer.open
    return sanitizer

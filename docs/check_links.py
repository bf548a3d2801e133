"""Follow every link inside the built site: `python docs/check_links.py build/site`.

Files and the places in them; what leaves the site is not followed.
"""

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The links of a page and the places that links can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and name in ("href", "src"):
                self.links.add(value)
            elif value and (name == "id" or (tag, name) == ("a", "name")):
                self.places.add(value)


@cache
def read(path: Path) -> _Page:
    """Parse a page, once."""
    page = _Page()
    page.feed(path.read_text("utf-8"))
    return page


def dead(path: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in sorted(read(path).links):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = path.parent / unquote(parts.path) if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        place = unquote(parts.fragment)
        if not target.exists() or (
            place and target.suffix == ".html" and place not in read(target.resolve()).places
        ):
            found.append(link)
    return found


def main(site: Path) -> int:
    """Print dead links; return the exit status."""
    pages = sorted(site.resolve().rglob("*.html"))
    pages = [path for path in pages if path.name != "webpack-macros.html"]  # a template
    bad = [(path, link) for path in pages for link in dead(path)]
    for path, link in bad:
        print(f"{path.relative_to(site.resolve())}: {link}")
    links = sum(len(read(path).links) for path in pages)
    print(f"{len(pages)} pages, {links} links, {len(bad)} dead")
    return 1 if bad or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

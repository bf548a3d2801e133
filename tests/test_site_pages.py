"""The site built in the folder ROI_NUMBA_SITE, in a browser as wide as a phone."""

import os
from pathlib import Path

import pytest

from browser import CHROMIUM, DRIVER, browser

SITE = os.environ.get("ROI_NUMBA_SITE")

pytestmark = [
    pytest.mark.skipif(SITE is None, reason="ROI_NUMBA_SITE names no built site"),
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
    ),
]

# Text of the page that ends beyond it, or beyond what clips it, and that no scrolling brings back.
CUT = """
const scrolls = "pre, .math, .output, .pst-scrollable-table-container, .roi-scroll, .roi-unseen";
const clips = (element) => ["hidden", "clip"].includes(getComputedStyle(element).overflowX);
const texts = document.createTreeWalker(document.querySelector(".bd-main"), NodeFilter.SHOW_TEXT);
const cut = [];
while (texts.nextNode()) {
  const parent = texts.currentNode.parentElement;
  const short = getComputedStyle(parent).textOverflow === "ellipsis";
  if (short || parent.closest(scrolls) || !parent.checkVisibility()) continue;
  const range = document.createRange();
  range.selectNodeContents(texts.currentNode);
  let edge = document.documentElement.clientWidth;
  for (let around = parent; around !== document.body; around = around.parentElement) {
    if (clips(around)) edge = Math.min(edge, around.getBoundingClientRect().right);
  }
  if (range.getBoundingClientRect().right > edge + 1) cut.push(texts.currentNode.data);
}
return cut;
"""


def test_nothing_is_cut_on_a_phone(tmp_path):
    pages = sorted(
        page for page in Path(SITE).resolve().rglob("*.html") if "_static" not in page.parts
    )
    assert len(pages) > 50
    cut = {}
    with browser(tmp_path) as window:
        window.resize(390, 844)
        for page in pages:
            window.visit(page.as_uri())
            found = window.run(CUT)
            if window.run("return document.documentElement.scrollWidth") > 390:
                found.append("the page is wider than its window")
            if found:
                cut[page.name] = found
        window.run("document.querySelector('h1').style.whiteSpace = 'nowrap'")
        long = "A title of one line that ends well beyond the edge of a phone"
        window.run("document.querySelector('h1').textContent = arguments[0]", long)
        assert long in window.run(CUT)
        window.quit()
    assert cut == {}

"""Extract code blocks, inline code, link targets and heading anchors from Markdown."""

import re
import textwrap

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language, dedented."""
    return [textwrap.dedent(code) for _, kind, code in _BLOCK.findall(text) if kind == language]


def inline_code(text: str) -> list[str]:
    """Return the text in single backticks outside of code blocks."""
    return re.findall(r"`([^`]+)`", _BLOCK.sub("", text))


def links(text: str) -> list[str]:
    """Return the targets of links and images outside of code blocks."""
    return re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", text))


def slugs(text: str) -> list[str]:
    """Return the anchors that GitHub derives from headings."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]

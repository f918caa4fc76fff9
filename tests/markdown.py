"""Parts of Markdown text: blocks of code, code within lines, links, headings."""

import re
import textwrap

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in a language, without their indentation."""
    return [textwrap.dedent(code) for _, kind, code in _BLOCK.findall(text) if kind == language]


def inline_code(text: str) -> list[str]:
    """What is in single backticks, outside of blocks."""
    return re.findall(r"`([^`]+)`", _BLOCK.sub("", text))


def links(text: str) -> list[str]:
    """The targets of links and pictures, outside of blocks."""
    return re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", text))


def slugs(text: str) -> list[str]:
    """The anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]

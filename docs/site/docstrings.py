# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Docstrings in the style of Hugging Face's libraries, as Markdown for the site."""

import inspect
import re
from collections.abc import Iterator

import griffe


SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Example):$")
ARGUMENT = re.compile(r"^(?P<names>\w+(?:, \w+)*)(?: \((?P<type>.+)\))?:$")
ERROR = re.compile(r"^`?(?P<name>\w+)`?: ")
REFERENCE = re.compile(r"\[`(?P<short>~?)(?P<name>[\w.]+)`\](?!\[|\()")
TITLES = {"Args": "Arguments"}


class HuggingFaceDocstrings(griffe.Extension):
    """Rewrites the docstrings of a package when all of it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        public = {name: f"{pkg.path}.{name}" for name, member in pkg.members.items() if member.is_alias}
        for part in _parts(pkg):
            if part.docstring is not None:
                part.docstring.value = to_markdown(part.docstring.value, public)


def to_markdown(docstring: str, public: dict[str, str]) -> str:
    """
    Args:
        docstring (`str`):
            A docstring without its indentation.
        public (`dict[str, str]`):
            Names that can be linked to, and where they are.

    Returns:
        `str`: Its sections under titles in bold, arguments and errors as lists, references as links.
    """
    text = "\n".join(_rewrite_sections(docstring.splitlines()))
    text = text.replace("```python\n>>>", "```pycon\n>>>")
    return REFERENCE.sub(lambda match: _link(match["name"], bool(match["short"]), public), text)


def _parts(part: griffe.Object) -> Iterator[griffe.Object]:
    yield part
    for member in part.members.values():
        if not member.is_alias:
            yield from _parts(member)


def _rewrite_sections(lines: list[str]) -> Iterator[str]:
    position = 0
    while position < len(lines):
        header = SECTION.match(lines[position])
        position += 1
        if header is None:
            yield lines[position - 1]
            continue
        block = []
        while position < len(lines) and (not lines[position] or lines[position].startswith(" ")):
            block.append(lines[position])
            position += 1
        yield from ("", f"**{TITLES.get(header[1], header[1])}**", "")
        yield from map(_as_list_item, inspect.cleandoc("\n" + "\n".join(block)).splitlines())
        yield ""


def _as_list_item(line: str) -> str:
    if argument := ARGUMENT.match(line):
        names = ", ".join(f"`{name}`" for name in argument["names"].split(", "))
        return f"- {names} ({argument['type']}):" if argument["type"] else f"- {names}:"
    return ERROR.sub(r"- `\g<name>`: ", line)


def _link(name: str, short: bool, public: dict[str, str]) -> str:
    first, _, rest = name.partition(".")
    shown = name.rsplit(".", 1)[-1] if short else name
    if first not in public:
        return f"`{shown}`"
    return f"[`{shown}`][{public[first]}{'.' if rest else ''}{rest}]"

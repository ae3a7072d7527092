"""Text that somebody else wrote (a catalog, a service, a node, a user), made fit to be shown.

Whoever shows a text picks by where it goes: `plain` for one line of a terminal, log or picture; `plain_lines` for
several; `in_markdown` for a Markdown page; `without_markup` where it is not known whether markup is rendered.
"""

import logging
import re
import unicodedata
from collections.abc import Iterator

_LONGEST = 4000
"""Characters of a line; a name has no end of its own."""
_MOST_MARKS = 4
"""Marks on one letter: with more, it grows into the lines above and below."""
_SECRET = re.compile(
    r"(?i:(?<=\bsig=)|(?<=\bAccountKey=)|(?<=\bclient_secret=)|(?<=\bclient_assertion=))[^&;\s\"'<>\\]+"
    r"|\beyJ[\w-]{8,}(\.[\w-]*)*|(?<=://)[^/\s]+(?=@)"
)
"""Signature of a SAS, account key, client secret; access token; user info of an address."""
_ESCAPABLE = re.compile(r"[\\`*_{}\[\]<>()#|~!&$]")
"""https://spec.commonmark.org/0.31.2/#backslash-escapes, and the pipe of a table."""
_LINK = re.compile(r":(?=//)|(?i:www)(?=\.)|@")
"""Where an address begins that becomes a link by itself: https://github.github.com/gfm/#autolinks-extension-."""
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|(?<=\])[(\[:]|:(?=//)|(?i:(?<=www))\.|@")
"""Without these characters there is no HTML, and no link or image of Markdown."""
_TRACEBACK = logging.Formatter()


def plain(text: object, longest: int = _LONGEST) -> str:
    """The text on one line, with nothing in it that a terminal or a browser would obey instead of showing it.

    Control characters, line breaks, what turns the direction of writing or has no width, and half surrogate pairs
    become escapes as in Python's strings; spaces of all kinds become the common one. To apply it again changes nothing.
    """
    start = str(text)[: longest + 1]
    shown = "".join(_shown(start))
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _shown(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category.startswith("M") else 0
        if category == "Zs":
            yield " "
        elif character.isprintable() and marks <= _MOST_MARKS:
            yield character
        else:
            yield character.encode("unicode_escape").decode()


def plain_lines(text: object) -> str:
    """The text, each line of it plain."""
    return "\n".join(plain(line) for line in re.split(r"\r?\n", str(text)))


def indented(text: object) -> str:
    """The text, each line of it plain and all but the first indented: none of them can be taken for another message."""
    return plain_lines(text).replace("\n", "\n  ")


def in_markdown(text: object) -> str:
    """Markdown that shows the text as it is, on one line: no link, picture, HTML, or cell of its own.

    Backslashes keep no address from becoming a link, since that is looked for when they are gone; a comment in it does.
    """
    return _LINK.sub(r"\g<0><!-- -->", _ESCAPABLE.sub(r"\\\g<0>", plain(text)))


def without_markup(text: object) -> str:
    """The text on one line, the same whether it is taken for text or for Markdown: what would be markup is escaped.

    Cells of table artifacts are text in one of Prefect's two UIs and Markdown in the other.
    """
    return _MARKUP.sub(lambda found: f"\\x{ord(found[0]):02x}", plain(text))


def without_secrets(text: str) -> str:
    """The text, with every signature, key and token in it replaced: services repeat addresses in what they answer."""
    return _SECRET.sub("(secret)", text)


def plain_record(record: logging.LogRecord) -> bool:
    """A filter of loggers that lets everything pass, without secrets, and with nothing in it that could forge a line.

    What is put into a message stays on its line; lines of an exception, and of its traceback, are indented.
    """
    if isinstance(record.args, tuple):
        record.args = tuple(plain(without_secrets(part)) if isinstance(part, str) else part for part in record.args)
    record.msg, record.args = indented(without_secrets(record.getMessage())), ()
    if record.exc_info and record.exc_info[0]:
        record.exc_text = indented(without_secrets(_TRACEBACK.formatException(record.exc_info)))
    return True

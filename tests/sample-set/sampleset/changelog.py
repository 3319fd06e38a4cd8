"""Debian changelogs: the newest entries, for %changelog."""

import gzip
import re
from email.utils import parsedate_to_datetime

_HEAD = re.compile(r"^\S+ \((?P<version>[^)]+)\) ")
_TAIL = re.compile(r"^ -- (?P<author>.*?)  (?P<date>.+)$")
_MOST_ENTRIES = 3
_MOST_LINES = 12


def parse(data: bytes) -> list[tuple[int, str, str, list[str]]]:
    """(seconds, author, version, lines) of the newest entries; what cannot be read ends the list."""
    try:
        text = gzip.decompress(data).decode("utf-8", "replace")
    except (OSError, EOFError):
        return []
    entries, version, lines = [], None, []
    for line in text.splitlines():
        head, tail = _HEAD.match(line), _TAIL.match(line)
        if head:
            version, lines = head["version"], []
        elif tail and version:
            try:
                seconds = int(parsedate_to_datetime(tail["date"]).timestamp())
            except (ValueError, TypeError):
                break
            entries.append((seconds, tail["author"], version, lines[:_MOST_LINES] or ["- No details."]))
            if len(entries) == _MOST_ENTRIES:
                break
        elif line.strip():
            # A line that starts with `*` would begin a new entry in a spec.
            body = line.strip()
            lines.append("- " + body[1:].strip() if body[0] in "*+-" else "  " + body)
    return entries

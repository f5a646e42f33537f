"""Numbers and times for people: seconds, milliseconds, bytes, counts, ratios, instants. Pure, and never rounded to a claim.

Read next: `screen.py`, where they are put.
"""

from __future__ import annotations

from typing import Final


def seconds(value: float) -> str:
    """Such as "<1 ms", "12 ms", "1.93 s", "2 min 05 s"."""
    if value < 0.0005:
        return "<1 ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.995:
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02} s"


def milliseconds(value: float) -> str:
    """Such as "0.12", "8.46", "81.5", "1240": three digits, or as many as the whole part has."""
    for limit, digits in ((9.995, 2), (99.95, 1)):
        if value < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def size(count: int) -> str:
    """Bytes by powers of 1000, such as "512 B", "15.2 MB"."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(value: int) -> str:
    """With a space between thousands, such as "10 000"."""
    return f"{value:,}".replace(",", " ")


def counted(value: int, thing: str, things: str | None = None) -> str:
    """Such as "1 index", "10 indexes"; `things` where the plural is not made with an s."""
    return f"{count(value)} {thing if value == 1 else things or thing + 's'}"


def ratio(before: float, after: float) -> str:
    """How many times less, such as "81x"; below 1 it takes longer now. Empty where nothing can be divided."""
    if after <= 0:
        return ""
    value = before / after
    return f"{value:.0f}x" if value >= 9.95 else f"{value:.1f}x"


BAR: Final = 10


def bar(before: float, after: float, blocks: str) -> str:
    """How long the time after is beside the time before, which is the whole bar; longer times end in a plus.

    >>> bar(10.0, 2.5, "#-"), bar(10.0, 20.0, "#-")
    ('##--------', '#########+')
    """
    if before <= 0:
        return ""
    filled = round(BAR * min(after / before, 1.0))
    if after > before * 1.05:
        return blocks[0] * (BAR - 1) + "+"
    return blocks[0] * max(filled, 1) + blocks[1] * (BAR - max(filled, 1))


def instant(recorded_at: str) -> str:
    """A recorded time (UTC, ISO 8601) to the second, such as "2026-05-01 12:30:59"."""
    return recorded_at[:19].replace("T", " ")

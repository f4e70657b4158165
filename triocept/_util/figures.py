"""Write numbers in short forms for people: `1 turn`, `12.1k`, `12m03s`."""

from __future__ import annotations


def counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def short(number: int) -> str:
    if number < 1000:
        return str(number)
    return f"{number / 1e3:.1f}k" if number < 999_950 else f"{number / 1e6:.1f}M"


def clock(value: float) -> str:
    """Return a number of seconds in a short form: `0.94s`, `12m03s`, `3h05m`."""
    if value < 100:
        return f"{value:.2f}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m{rest:02}s" if minutes < 100 else f"{minutes // 60}h{minutes % 60:02}m"

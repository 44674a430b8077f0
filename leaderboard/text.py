# SPDX-License-Identifier: Apache-2.0
"""Numbers and submitted strings as a reader sees them.

Submitted strings are hostile until they have gone through :func:`plain` (and Jinja's autoescape), :func:`safe_url` or
:func:`csv_cell`.
"""

import hashlib
import math
import re
import unicodedata
from urllib.parse import urlsplit

from markupsafe import Markup, escape

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# A spreadsheet runs a cell that starts with one of these as a formula (OWASP, CSV injection).
_FORMULA_STARTS = (*"=+-@\t\r\n|%", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_URL_TEXT = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]+")


def plain(text: object, limit: int = 120) -> str:
    """One line without control, bidi and other invisible characters, at most ``limit`` characters."""
    line = " ".join(str(text)[: 4 * limit].split())
    if line.isascii() and line.isprintable():  # most text: nothing to look for
        return line if len(line) <= limit and len(str(text)) <= 4 * limit else line[: limit - 1] + "…"
    # Cc control, Cf format (bidi marks, zero width), Co private use, Cs surrogates
    visible = "".join(_REPLACEMENT if unicodedata.category(c) in {"Cc", "Cf", "Co", "Cs"} else c for c in line)
    return visible if len(visible) <= limit and len(str(text)) <= 4 * limit else visible[: limit - 1] + "…"


def marked_up(text: str) -> Markup:
    """Our own documentation as HTML: what stands between double backticks becomes ``<code>``, all of it escaped."""
    parts = text.split("``")
    if len(parts) % 2 == 0:  # a mark without its partner
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)
    )


def safe_url(url: object) -> str | None:
    """An https address, or None for anything else (``javascript:``, credentials, odd characters)."""
    text = str(url)
    if len(text) > 500 or not _URL_TEXT.fullmatch(text):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    good = parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    return text if good else None


def csv_cell(value: object) -> object:
    """A text cell that no spreadsheet runs as a formula; numbers pass."""
    if not isinstance(value, str):
        return value
    text = plain(value, limit=500)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def number(value: float, digits: int = 3) -> str:
    """Fixed digits with a real minus sign; never ``-0.000``."""
    text = f"{value:.{digits}f}"
    if text.startswith("-"):
        text = text[1:] if float(text) == 0 else f"\N{MINUS SIGN}{text[1:]}"
    return text


def signed(value: float, digits: int = 3) -> str:
    """Like :func:`number`, with a plus sign for what is above 0."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(f"{value:.{digits}f}") > 0 else text


def scientific(value: float) -> str:
    """Three digits, or a power of ten where these would be 0: ``−5.8e−07``."""
    return f"{value:.1e}".replace("-", "\N{MINUS SIGN}") if 0 < abs(value) < 1e-3 else number(value)


def bounds(low: float, high: float, digits: int = 3) -> str:
    """``[low, high]``."""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def count(value: int) -> str:
    """``1234567`` as ``1.2M``: three significant digits at most."""
    if value < 1000:
        return str(value)
    power = min(int(math.log10(value) // 3), 4)
    scaled = value / 1000**power
    if float(f"{scaled:.3g}") >= 1000 and power < 4:
        scaled, power = scaled / 1000, power + 1
    digits = 0 if scaled >= 100 else 1
    text = f"{scaled:.{digits}f}".removesuffix(".0")
    return text + ("", "K", "M", "B", "T")[power]


def seconds(value: float) -> str:
    """A duration with one unit: ``0.4 s``, ``12 s``, ``3.5 min``, ``2.1 h``."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def size(n_bytes: int) -> str:
    """Bytes as MiB or GiB."""
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.1f} GiB"


def short_hash(text: str) -> str:
    """Eight hexadecimal digits that tell two names apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]

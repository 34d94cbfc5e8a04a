"""Ready-made masks for personal data: e-mail addresses, phone numbers, card numbers and IBANs.

::

    from gati import masks, observe

    def no_names(text, path, kind):
        return text.replace("Ada", "[name]")

    observe.init(mask=masks.personal_data)
    observe.init(mask=masks.combine(masks.emails, masks.ibans, no_names))

Each mask replaces what it recognizes by a marker such as ``[email]`` and returns the rest of the text unchanged. Numbers
are recognized by their checksum or their form, so that order numbers, dates, versions and hashes stay. Escapes of
JSON and marks of Markdown around them make no difference. Recognition by form cannot be complete: a phone number without
``+``, separators or a word such as "phone" before it is not distinguished from other numbers.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise, takewhile

__all__ = ["card_numbers", "combine", "emails", "ibans", "personal_data", "phone_numbers"]

MaskFunction = Callable[[str, str, str], str]
"""Takes a text, its path and the message type; returns the text to send. See the option `mask`."""


def combine(*masks: MaskFunction) -> MaskFunction:
    """Return a mask that applies the given masks in turn."""

    def combined(text: str, path: str, kind: str) -> str:
        for mask in masks:
            text = mask(text, path, kind)
        return text

    return combined


# -- Replacement

_Span = tuple[int, int, str]
"""Start and end of what is replaced, and its marker."""

_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(/)|[nrtbf])")


def _replace(text: str, find: Callable[[str], Iterator[_Span]]) -> str:
    r"""Replace what `find` finds in the text without escapes; the rest stays as it is written.

    Results of tools are often JSON, where a line break before a number is written as ``\n``, a letter and not a space,
    and a hyphen may be ``\u2011``.
    """
    plain, escapes, shifts = text, [], [0]
    if "\\" in text:
        pieces, end, length = [], 0, 0
        for escape in _ESCAPE.finditer(text):
            code = escape[1] or escape[2]
            character = chr(int(code, 16)) if code else escape[3] or "\n"
            pieces += [text[end : escape.start()], character]
            length += escape.start() - end + 1
            end = escape.end()
            escapes.append(length)
            shifts.append(end - length)
        plain = "".join([*pieces, text[end:]])
    parts: list[str] = []
    end = 0
    for first, last, marker in find(plain):
        start = first + shifts[bisect_right(escapes, first)]
        parts += [text[end:start], marker]
        end = last + shifts[bisect_right(escapes, last)]
    return "".join([*parts, text[end:]]) if parts else text


_UUID = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}(?![0-9A-Za-z])", re.IGNORECASE
)
_NO_UUID = "\ufffc" * 36


def _without_uuids(text: str) -> str:
    """Return the text, of the same length, without UUIDs: parts of them look like other numbers."""
    return _UUID.sub(_NO_UUID, text)


# -- E-mail addresses

_EMAIL = re.compile(
    # In quotation marks, which are escaped in a JSON text, an address may contain spaces and escaped characters.
    r"(?P<local>(?<![^\W_])(?<![.%+&-])(?:\\?\"\w(?:[^\"\n]{0,60}[^\"\s])?\"|\"\w(?:[^\"\\\n]|\\.){0,62}\")"
    r"|(?<![\w.%+'&-])[\w.%+'&-]{1,64})(?:@|\uff20|%40)"
    r"(?P<domain>(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,63}))(?!-?_{0,3}[^\W_])",
    re.IGNORECASE,
)
_DENSITY = re.compile(r"\dx\.", re.IGNORECASE)


def emails(text: str, path: str = "", kind: str = "") -> str:
    """Replace e-mail addresses by ``[email]``.

    Package versions (``left-pad@1.3.0``), decorators, mentions, ``icon@2x.png`` and ``git@host:path`` stay.
    """
    return _replace(text, _find_emails)


def _find_emails(text: str) -> Iterator[_Span]:
    if "@" not in text and "\uff20" not in text and "%40" not in text:
        return
    for match in _EMAIL.finditer(text):
        following = text[match.end() : match.end() + 4]
        name = match["local"].strip("_'")
        is_remote = name.lower() == "git" and re.match(r":[\w~/]", following)
        if name and not is_remote and not _DENSITY.match(match["domain"]):
            yield match.start() + len(_marks_around(match["local"], following)), match.end(), "[email]"


def _marks_around(local: str, following: str) -> str:
    """Return the marks of Markdown, or the quotation mark, before an address: the same ones are behind it."""
    before = local[: len(local) - len(local.lstrip("_'"))]
    behind = following[: len(following) - len(following.lstrip("_'"))]
    same = takewhile(lambda pair: pair[0] == pair[1], zip(before, reversed(behind), strict=False))
    return "".join(mark for mark, _ in same)


# -- Card numbers

_SPACES = " \u00a0\u2007\u2009\u202f"
_HYPHENS = "\u2010\u2011\u2013-"  # the last one has no meaning of its own at the end of a set
_BETWEEN = f"{_SPACES}{_HYPHENS}"
_CARD = re.compile(
    # Without groups, other numbers may be beside it: a date and a code, or the columns of a table.
    rf"(?<![0-9A-Za-z])(?<![0-9][.{_HYPHENS}])[0-9]{{13,19}}(?![0-9A-Za-z])(?![.{_HYPHENS}][0-9])"
    rf"|(?<![0-9A-Za-z])(?<![0-9][.,{_BETWEEN}])"
    rf"(?:(?P<groups>[0-9]{{4}}(?:[{_BETWEEN}][0-9]{{4}}){{3}})(?:[{_BETWEEN}]?[0-9]{{1,3}})?"
    rf"|[0-9]{{4}}[{_BETWEEN}][0-9]{{6}}[{_BETWEEN}][0-9]{{4,5}})"
    rf"(?![0-9A-Za-z])(?![.{_HYPHENS}][0-9])(?![,{_SPACES}][0-9]{{4}})"
)
_PHONE_DIGITS = 15
"""The most digits of an international phone number, after its ``+``."""

_ISSUERS = re.compile(
    r"4(?:.{12}|.{15}|.{18})"  # Visa
    r"|5[1-5].{14}|2(?:22[1-9]|2[3-9].|[3-6]..|7[01].|720).{12}"  # Mastercard
    r"|3[47].{13}"  # American Express
    r"|3(?:0[0-5]|[689].).{11,16}"  # Diners Club
    r"|35(?:2[89]|[3-8].).{12,15}"  # JCB
    r"|6(?:011|4[4-9].|5..|2..).{12,15}"  # Discover, RuPay, UnionPay
    r"|(?:50|5[6-9]|6[0-9]).{11,17}"  # Maestro
    r"|220[0-4].{12,15}|8[12].{14}"  # Mir, RuPay
)


def card_numbers(text: str, path: str = "", kind: str = "") -> str:
    """Replace numbers of payment cards by ``[card]``.

    A number has the length and the first digits of a known issuer and a correct Luhn checksum. Its digits may be in
    groups.
    """
    return _replace(text, _find_cards)


def _find_cards(text: str) -> Iterator[_Span]:
    for match in _CARD.finditer(_without_uuids(text)):
        is_international = text[match.start() - 1 : match.start()] == "+"
        for number in filter(None, (match[0], match["groups"])):  # a group after four of four digits may be another
            digits = re.sub("[^0-9]", "", number)
            is_phone = is_international and len(digits) <= _PHONE_DIGITS
            if _ISSUERS.fullmatch(digits) and _luhn(digits) and not is_phone:
                yield match.start(), match.start() + len(number), "[card]"
                break


def _luhn(digits: str) -> bool:
    """Return True if the checksum of a card number is correct: ``4111111111111111``."""
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


# -- IBANs

_IBAN_FORMATS = {
    "AD": "8n12c", "AE": "19n", "AL": "8n16c", "AT": "16n", "AZ": "4a20c", "BA": "16n", "BE": "12n", "BG": "4a6n8c",
    "BH": "4a14c", "BI": "23n", "BR": "23n1a1c", "BY": "4c4n16c", "CH": "5n12c", "CR": "18n", "CY": "8n16c",
    "CZ": "20n", "DE": "18n", "DJ": "23n", "DK": "14n", "DO": "4c20n", "EE": "16n", "EG": "25n", "ES": "20n",
    "FI": "14n", "FK": "2a12n", "FO": "14n", "FR": "10n11c2n", "GB": "4a14n", "GE": "2a16n", "GI": "4a15c",
    "GL": "14n", "GR": "7n16c", "GT": "24c", "HN": "4a20n", "HR": "17n", "HU": "24n", "IE": "4a14n", "IL": "19n",
    "IQ": "4a15n", "IS": "22n", "IT": "1a10n12c", "JO": "4a4n18c", "KW": "4a22c", "KZ": "3n13c", "LB": "4n20c",
    "LC": "4a24c", "LI": "5n12c", "LT": "16n", "LU": "3n13c", "LV": "4a13c", "LY": "21n", "MC": "10n11c2n",
    "MD": "20c", "ME": "18n", "MK": "3n10c2n", "MN": "16n", "MR": "23n", "MT": "4a5n18c", "MU": "4a19n3a",
    "NI": "4a20n", "NL": "4a10n", "NO": "11n", "OM": "3n16c", "PK": "4a16c", "PL": "24n", "PS": "4a21c",
    "PT": "21n", "QA": "4a21c", "RO": "4a16c", "RS": "18n", "RU": "14n15c", "SA": "2n18c", "SC": "4a20n3a",
    "SD": "14n", "SE": "20n", "SI": "15n", "SK": "20n", "SM": "1a10n12c", "SO": "19n", "ST": "21n", "SV": "4a20n",
    "TL": "19n", "TN": "20n", "TR": "6n16c", "UA": "6n19c", "VA": "18n", "VG": "4a16n", "XK": "16n",
    "YE": "4a4n18c",
}  # fmt: skip
"""What follows the check digits of an IBAN by country, from the registry of SWIFT: n digits, a letters, c either."""

_IBAN_CLASSES = {"n": "[0-9]", "a": "[A-Z]", "c": "[0-9A-Z]"}
_IBAN_FORMS = {
    country: re.compile(re.sub("([0-9]+)([nac])", lambda part: f"{_IBAN_CLASSES[part[2]]}{{{part[1]}}}", form))
    for country, form in _IBAN_FORMATS.items()
}
_IBAN_LENGTHS = {
    country: 4 + sum(int(count) for count in re.findall("[0-9]+", form)) for country, form in _IBAN_FORMATS.items()
}
_IBAN_START = re.compile(rf"(?<![0-9A-Za-z])[A-Za-z]{{2}}[0-9]{{2}}(?=[0-9A-Za-z{_BETWEEN}])")
_HYPHENATED = re.compile(rf"[0-9A-Za-z]+(?:[{_HYPHENS}][0-9A-Za-z]+)+")
_HYPHENATED_IBAN = re.compile(rf"(?:[0-9A-Za-z]{{4}}[{_HYPHENS}])+[0-9A-Za-z]{{1,4}}")


def ibans(text: str, path: str = "", kind: str = "") -> str:
    """Replace international bank account numbers by ``[iban]``.

    A number has the form of its country and a correct checksum. Its characters may be in groups: of any length between
    spaces, of four between hyphens.
    """
    return _replace(text, _find_ibans)


def _find_ibans(text: str) -> Iterator[_Span]:
    text = _without_uuids(text)
    end = 0
    for match in _IBAN_START.finditer(text):
        if match.start() >= end and (found := _iban_end(text, match.start())):
            end = found
            yield match.start(), end, "[iban]"


def _iban_end(text: str, start: int) -> int:
    """Return the position after the IBAN that begins at `start`; 0 if there is none."""
    country = text[start : start + 2].upper()
    length = _IBAN_LENGTHS.get(country, 0)
    characters, position = "", start
    while len(characters) < length and position < len(text):
        character = text[position]
        if character in _BETWEEN and text[position - 1] not in _BETWEEN:
            pass
        elif character.isascii() and character.isalnum():
            characters += character.upper()
        else:
            return 0
        position += 1
    following = text[position : position + 1]
    if not length or len(characters) < length or (following.isascii() and following.isalnum()):
        return 0
    written = text[start:position]
    if _HYPHENATED.fullmatch(written) and not _HYPHENATED_IBAN.fullmatch(written):
        return 0
    if not _IBAN_FORMS[country].fullmatch(characters[4:]):
        return 0
    number = "".join(str(int(character, 36)) for character in characters[4:] + characters[:4])
    return position if int(number) % 97 == 1 else 0


# -- Phone numbers

_COUNTRY_CODE = (
    "1|7|20|27|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|2[1-69][0-9]|3[578][0-9]|42[0-9]|5[09][0-9]|6[7-9][0-9]|8[0578][0-9]|9[679][0-9]"
)
_GAP = rf"[{_SPACES}./(){_HYPHENS}]{{0,3}}"
# Letters of other scripts may be directly beside a number, and the underscores of Markdown.
_NO_WORD_BEFORE = r"(?<![0-9A-Za-z])(?<![0-9A-Za-z]_)(?<![0-9A-Za-z]__)"
_NO_WORD_AFTER = r"(?!_{0,2}[0-9A-Za-z])"
_START = rf"{_NO_WORD_BEFORE}(?<![.+/,{_HYPHENS}])(?<![0-9][{_SPACES}])"
_COUNTRY = rf"(?:{_COUNTRY_CODE}|\((?:{_COUNTRY_CODE})\))(?:{_GAP}[0-9]){{6,13}}(?![0-9])"
_INTERNATIONAL = rf"{_NO_WORD_BEFORE}(?<![+.])\+{_COUNTRY}|{_START}00{_COUNTRY}(?![./{_HYPHENS}][0-9])"
_NORTH_AMERICAN = (
    rf"{_START}(?:1[.{_BETWEEN}])?(?:\([2-9][0-9]{{2}}\)[{_SPACES}]?|[2-9][0-9]{{2}}[.{_BETWEEN}])"
    rf"[0-9]{{3}}[.{_BETWEEN}][0-9]{{4}}{_NO_WORD_AFTER}(?![{_HYPHENS}]|[.,/][0-9])"
)
_BRAZILIAN = (
    rf"{_START}(?:\([1-9][0-9]\)[{_SPACES}]?9?|[1-9][0-9][{_SPACES}]9)[0-9]{{4}}[{_HYPHENS}][0-9]{{4}}"
    rf"{_NO_WORD_AFTER}(?![{_HYPHENS}]|[.,/][0-9])"
)
_RUSSIAN = (
    rf"{_START}8[{_BETWEEN}]?(?:\([3489][0-9]{{2}}\)[{_BETWEEN}]?|[3489][0-9]{{2}}[{_BETWEEN}])"
    rf"[0-9]{{3}}(?:[{_BETWEEN}][0-9]{{2}}){{2}}{_NO_WORD_AFTER}(?![{_HYPHENS}]|[.,/][0-9])"
)
_NATIONAL = (
    rf"{_START}(?:\(0[1-9][0-9]{{0,4}}\)|0[1-9][0-9]{{0,4}})"
    rf"(?:[./{_BETWEEN}]{{1,2}}|[{_SPACES}][/{_HYPHENS}][{_SPACES}])"
    rf"[0-9]{{2,8}}(?:[.{_BETWEEN}][0-9]{{2,8}}){{0,4}}{_NO_WORD_AFTER}(?![/{_HYPHENS}]|[.,:][0-9])"
)
_PHONE_WORD = r"(?:tele?phone?|telefon|tel|phone|mobile?|cell(?:phone)?|fax|handy|whatsapp)"
_LABELLED = (
    rf"(?<![^\W_])(?P<label>{_PHONE_WORD}(?:[ _-]?(?:number|nummer|no|nr))?(?![^\W_])"
    # "(mobile)", "is", and marks of JSON, of Markdown and its tables, and of tags.
    rf"(?: ?\([^\W\d]{{1,12}}\))?(?:[*_\"'\\]{{0,3}} (?:is|ist|lautet)(?![^\W_]))?[.:=#*_|>`\"'\\\s]{{0,6}})"
    rf"(?P<number>\(?[0-9](?:{_GAP}[0-9]){{6,14}}){_NO_WORD_AFTER}(?![{_HYPHENS}])"
)
_PHONE = re.compile(f"{_INTERNATIONAL}|{_NORTH_AMERICAN}|{_BRAZILIAN}|{_RUSSIAN}|{_NATIONAL}")
_LABELLED_PHONE = re.compile(_LABELLED, re.IGNORECASE)
_PHONE_KEY = re.compile(rf"(?:^|[._-]){_PHONE_WORD}(?:[._-]?(?:number|nummer|no|nr))?$", re.IGNORECASE)
_WHOLE = re.compile(rf"\s*\+?\(?[0-9](?:{_GAP}[0-9]){{4,14}}\s*")
_DATE = re.compile(r"\(?[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{2,4}(?![0-9]|[./-][0-9])")
_SOCIAL_SECURITY = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}")
_DECIMAL = re.compile(r"\+[0-9]{1,3}\.[0-9]+")
_VERSION = re.compile(r"[0-9]\.[0-9]{1,2}(?:\.[0-9]+){1,2}")
_ISO_DATE = re.compile(r"\+?(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-[0-3][0-9](?![0-9-])")
_ROUND = re.compile(rf"[0-9]00(?:[{_SPACES}][0-9]+00)+")
_OTHER_LABEL = re.compile(
    r"(?<![^\W_])(?:(?:sku|order|part|item|article|artikel|invoice|ticket|serial|ref(?:erence)?|tracking|model|lot|batch)"
    r"(?:[ _-]?(?:number|nummer|code|id|no|nr))?"
    # A number after "customer" alone may be a phone number.
    r"|(?:customer|client|account|contract|case|booking|shipment|parcel|policy|member(?:ship)?|bestell(?:ungs)?|kunden"
    r"|konto|auftrags?|sendungs?|paket|rechnungs?|vertrags?|vorgangs?|buchungs?|mitglieds?|serien|referenz)"
    r"[ _-]?(?:number|nummer|code|id|no|nr))(?:\.?[*_\"'\\]{0,3} (?:is|ist|lautet))?[.:=#*_|>`\"'\\ ]{1,6}\Z",
    re.IGNORECASE,
)
_LABEL_CHARS = 40


def phone_numbers(text: str, path: str = "", kind: str = "") -> str:
    """Replace phone numbers by ``[phone]``.

    Recognized are international numbers, national numbers whose digits are in groups, numbers after a word such as
    "phone", and any number whose key is such a word, as in ``{"phone": "5550100"}``. Order numbers, dates, versions, IP
    addresses and coordinates stay.
    """
    if _PHONE_KEY.search(path) and _WHOLE.fullmatch(text):
        return "[phone]"
    return _replace(_replace(text, _find_phones), _find_labelled_phones)


def _find_phones(text: str) -> Iterator[_Span]:
    for match in _PHONE.finditer(_without_uuids(text)):
        if _is_phone(match):
            yield match.start(), match.end(), "[phone]"


def _find_labelled_phones(text: str) -> Iterator[_Span]:
    for match in _LABELLED_PHONE.finditer(_without_uuids(text)):
        number = match["number"]
        if not (_VERSION.fullmatch(number) or _DATE.match(number) or _ISO_DATE.match(number)):
            yield match.start("number"), match.end(), "[phone]"


def _is_phone(match: re.Match[str]) -> bool:
    found = match[0]
    digits = re.sub("[^0-9]", "", found)
    # A line that a diff adds may begin with a date.
    if _DATE.match(found) or _ISO_DATE.match(found) or _SOCIAL_SECURITY.fullmatch(found) or _DECIMAL.fullmatch(found):
        return False
    before = max(0, match.start() - _LABEL_CHARS)
    if not found.startswith("+") and _OTHER_LABEL.search(match.string, before, match.start()):
        return False
    if found.startswith(("+", "00")):
        digits = digits.removeprefix("00") if found.startswith("00") else digits
        in_range = 8 <= len(digits) <= _PHONE_DIGITS
        plausible = len(digits) == 11 and digits[1] in "23456789" if digits[0] == "1" else in_range
        # Without separators, "00" is the beginning of many numbers that are no phone numbers.
        return plausible and (found.startswith("+") or found != f"00{digits}")
    return 9 <= len(digits) <= 12 and not _ROUND.fullmatch(found) and not _is_series(found)


def _is_series(found: str) -> bool:
    """Return True for numbers at equal distances, such as ``01 02 03 04 05`` and ``050-100-150``."""
    numbers = [int(number) for number in re.findall("[0-9]+", found)]
    distances = {after - before for before, after in pairwise(numbers)}
    distance = distances.pop()
    # Not by chance: the groups of 01 23 45 67 89 are at equal distances, too.
    return len(numbers) > 2 and not distances and (distance == 1 or (distance > 0 and distance % 10 == 0))


personal_data = combine(ibans, card_numbers, emails, phone_numbers)
"""All masks of this module."""

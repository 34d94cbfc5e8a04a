"""Ready-made masks for personal data: e-mail addresses, phone numbers, card numbers and IBANs.

::

    from gati import masks, observe

    def no_names(text, path, kind):
        return text.replace("Ada", "[name]")

    observe.init(mask=masks.personal_data)
    observe.init(mask=masks.combine(masks.emails, masks.ibans, no_names))

Each mask replaces what it recognizes by a marker such as ``[email]`` and returns the rest of the text unchanged. Numbers
are recognized by their checksum or their form, so that order numbers, dates, versions and hashes stay. Recognition by
form cannot be complete: a phone number without ``+``, separators or a word such as "phone" before it is not
distinguished from other numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["card_numbers", "combine", "emails", "ibans", "personal_data", "phone_numbers"]

MaskFunction = Callable[[str, str, str], str]
"""Takes a text, its path and the message type; returns the text to send. See the option `mask`."""


def combine(*masks: MaskFunction) -> MaskFunction:
    """Return a mask that applies the given masks one after the other."""

    def combined(text: str, path: str, kind: str) -> str:
        for mask in masks:
            text = mask(text, path, kind)
        return text

    return combined


# -- E-mail addresses

_EMAIL = re.compile(
    r"(?<![\w.%+'&-])"
    # In quotation marks, which are escaped in a JSON text, an address may contain spaces and escaped characters.
    r"(?P<local>\\?\"\w(?:[^\"\n]{0,60}[^\"\s])?\"|\"\w(?:[^\"\\\n]|\\.){0,62}\"|[\w.%+'&-]{1,64})(?:@|\uff20|%40)"
    r"(?P<domain>(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,63}))(?!-?\w)",
    re.IGNORECASE,
)
_DENSITY = re.compile(r"\dx\.", re.IGNORECASE)


def emails(text: str, path: str = "", kind: str = "") -> str:
    """Replace e-mail addresses by ``[email]``.

    Package versions (``left-pad@1.3.0``), decorators, mentions, ``icon@2x.png`` and ``git@host:path`` stay.
    """
    if "@" not in text and "\uff20" not in text and "%40" not in text:
        return text
    return _EMAIL.sub(_replace_email, text)


def _replace_email(match: re.Match[str]) -> str:
    following = match.string[match.end() : match.end() + 2]
    is_remote = match["local"].lower() == "git" and re.match(r":[\w~/]", following)
    if is_remote or _DENSITY.match(match["domain"]):
        return match[0]
    return "[email]"


# -- Card numbers

_SPACES = " \u00a0\u2007\u2009\u202f"
_CARD = re.compile(
    # Without groups, other numbers may be beside it: a date and a code, or the columns of a table.
    r"(?<![0-9A-Za-z])(?<![0-9][.-])[0-9]{13,19}(?![0-9A-Za-z])(?![.-][0-9])"
    rf"|(?<![0-9A-Za-z])(?<![0-9][.,{_SPACES}-])"
    rf"(?:(?P<groups>[0-9]{{4}}(?:[{_SPACES}-][0-9]{{4}}){{3}})(?:[{_SPACES}-]?[0-9]{{1,3}})?"
    rf"|[0-9]{{4}}[{_SPACES}-][0-9]{{6}}[{_SPACES}-][0-9]{{4,5}})"
    rf"(?![0-9A-Za-z])(?![.-][0-9])(?![,{_SPACES}][0-9]{{4}})"
)
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
    return _CARD.sub(_replace_card, text)


def _replace_card(match: re.Match[str]) -> str:
    for number in filter(None, (match[0], match["groups"])):  # a group after four of four digits may be another number
        digits = re.sub("[^0-9]", "", number)
        if _ISSUERS.fullmatch(digits) and _luhn(digits):
            return f"[card]{match[0][len(number) :]}"
    return match[0]


def _luhn(digits: str) -> bool:
    """Return True if the checksum of a card number is correct: ``4111111111111111``."""
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


# -- IBANs

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
"""Length of an IBAN by country, from the registry of SWIFT."""

_IBAN_START = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}(?=[0-9A-Za-z \u00a0\u202f-])")
_IBAN_SEPARATORS = f"{_SPACES}-"


def ibans(text: str, path: str = "", kind: str = "") -> str:
    """Replace international bank account numbers by ``[iban]``.

    A number has the length of its country and a correct checksum. Its characters may be in groups.
    """
    parts: list[str] = []
    end = 0
    for match in _IBAN_START.finditer(text):
        if match.start() >= end and (found := _iban_end(text, match.start())):
            parts += [text[end : match.start()], "[iban]"]
            end = found
    return "".join([*parts, text[end:]]) if parts else text


def _iban_end(text: str, start: int) -> int:
    """Return the position after the IBAN that begins at `start`; 0 if there is none."""
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    characters, position = "", start
    while len(characters) < length and position < len(text):
        character = text[position]
        if character in _IBAN_SEPARATORS and text[position - 1] not in _IBAN_SEPARATORS:
            pass
        elif character.isascii() and character.isalnum():
            characters += character.upper()
        else:
            return 0
        position += 1
    following = text[position : position + 1]
    if not length or len(characters) < length or (following.isascii() and following.isalnum()):
        return 0
    number = "".join(str(int(character, 36)) for character in characters[4:] + characters[:4])
    return position if int(number) % 97 == 1 else 0


# -- Phone numbers

_COUNTRY_CODE = (
    "1|7|20|27|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|2[1-69][0-9]|3[578][0-9]|42[0-9]|5[09][0-9]|6[7-9][0-9]|8[0578][0-9]|9[679][0-9]"
)
_GAP = rf"[{_SPACES}./()\u2010\u2011\u2013-]{{0,3}}"
_START = rf"(?<![\w.+/,-])(?<![0-9][{_SPACES}])"
_INTERNATIONAL = (
    rf"(?:(?<![\w+.])\+|{_START}00)(?:{_COUNTRY_CODE}|\((?:{_COUNTRY_CODE})\))(?:{_GAP}[0-9]){{6,13}}(?![0-9])"
)
_NORTH_AMERICAN = (
    rf"{_START}(?:1[-.{_SPACES}])?(?:\([2-9][0-9]{{2}}\)[{_SPACES}]?|[2-9][0-9]{{2}}[-.{_SPACES}])"
    rf"[0-9]{{3}}[-.{_SPACES}][0-9]{{4}}(?![\w-]|[.,/][0-9])"
)
_NATIONAL = (
    rf"{_START}(?:\(0[1-9][0-9]{{0,4}}\)|0[1-9][0-9]{{0,4}})[{_SPACES}./-]{{1,2}}"
    rf"[0-9]{{2,8}}(?:[{_SPACES}.-][0-9]{{2,8}}){{0,4}}(?![\w/-]|[.,:][0-9])"
)
_LABELLED = (
    r"\b(?P<label>(?:tele?phone?|telefon|tel|phone|mobile?|cell(?:phone)?|fax|handy|whatsapp)"
    r"(?:[ _-]?(?:number|nummer|no|nr))?\b[.:=#\"' ]{0,4})(?P<number>\(?[0-9]"
    rf"(?:{_GAP}[0-9]){{6,14}})(?![\w-])"
)
_PHONE = re.compile(f"{_INTERNATIONAL}|{_NORTH_AMERICAN}|{_NATIONAL}")
_LABELLED_PHONE = re.compile(_LABELLED, re.IGNORECASE)
_PHONE_KEY = re.compile(
    r"(?:^|[._-])(?:tele?phone?|telefon|tel|phone|mobile|cell(?:phone)?|fax)(?:[._-]?(?:number|no|nr))?$", re.IGNORECASE
)
_WHOLE = re.compile(rf"\s*\+?\(?[0-9](?:{_GAP}[0-9]){{4,14}}\s*")
_DATE = re.compile(r"\(?[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{2,4}(?![0-9]|[./-][0-9])")
_SOCIAL_SECURITY = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}")
_DECIMAL = re.compile(r"\+[0-9]{1,3}\.[0-9]+")
_OTHER_LABEL = re.compile(
    r"(?<![^\W_])(?:sku|order|part|item|article|artikel|invoice|ticket|serial|ref(?:erence)?|tracking|model|lot|batch)"
    r"(?:[ _-]?(?:number|nummer|code|id|no|nr))?[.:=#\"' ]{1,4}\Z",
    re.IGNORECASE,
)
_LABEL_CHARS = 24


def phone_numbers(text: str, path: str = "", kind: str = "") -> str:
    """Replace phone numbers by ``[phone]``.

    Recognized are international numbers, national numbers whose digits are in groups, numbers after a word such as
    "phone", and any number whose key is such a word, as in ``{"phone": "5550100"}``. Order numbers, dates, versions, IP
    addresses and coordinates stay.
    """
    if _PHONE_KEY.search(path) and _WHOLE.fullmatch(text):
        return "[phone]"
    text = _PHONE.sub(_replace_phone, text)
    return _LABELLED_PHONE.sub(r"\g<label>[phone]", text)


def _replace_phone(match: re.Match[str]) -> str:
    found = match[0]
    digits = re.sub("[^0-9]", "", found)
    if _DATE.match(found) or _SOCIAL_SECURITY.fullmatch(found) or _DECIMAL.fullmatch(found):
        return found
    if found.startswith(("+", "00")):
        digits = digits.removeprefix("00") if found.startswith("00") else digits
        plausible = len(digits) == 11 and digits[1] in "23456789" if digits[0] == "1" else 8 <= len(digits) <= 15
        # Without separators, "00" is the beginning of many numbers that are no phone numbers.
        return "[phone]" if plausible and (found.startswith("+") or found != f"00{digits}") else found
    if _OTHER_LABEL.search(match.string, max(0, match.start() - _LABEL_CHARS), match.start()):
        return found
    return "[phone]" if 9 <= len(digits) <= 12 else found


personal_data = combine(ibans, card_numbers, emails, phone_numbers)
"""All masks of this module."""

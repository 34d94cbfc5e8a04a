"""The ready-made masks: what they replace, and look-alikes that stay."""

from __future__ import annotations

import json
import pickle
import random
import uuid
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati import masks, observe
from gati.masks import card_numbers, combine, emails, ibans, personal_data, phone_numbers
from gati.testing import ScriptedChatModel, capture

EMAILS = [
    "ada@example.org", "ada.lovelace+news@mail.example.co.uk", "ADA@EXAMPLE.ORG", "o'brien@example.ie", "a_b-c@ex-ample.com",
    "müller@bücher.example", "ada@xn--bcher-kva.example", "x@sub.sub.sub.example.museum", "ada%40example.org", "1234567@qq.com",
    '"ada"@example.org', '"john doe"@example.com', '"ada.l (home)"@example.org', '"a@b"@example.org', r'\"john doe\"@example.com',
    r'"john \"jd\" doe"@example.com', "ada\uff20example.org", "ада@почта.рф",
    r"m\u00fcller@example.org", r"ada\u0040example.org", "_ada@example.com", "550e8400-e29b-41d4-a716-446655440000@relay.example.org",
]  # fmt: skip

PHONES = [
    "+1 555 010 0123", "+15550100123", "+1 (555) 010-0123", "+49 30 901820", "+49 (0)30 901820", "+49-171-1234567", "+44 20 7946 0958",
    "+33 1 23 45 67 89", "+41 44 668 18 00", "+81-3-1234-5678", "+86 138 0013 8000", "+91 98765 43210", "+61 2 9876 5432", "+351 912 345 678",
    "0049 30 901820", "(555) 010-0123", "555-010-0123", "555.010.0123", "1-800-555-0199", "555 010 0123", "030 9018200", "030/9018200",
    "0171 2345678", "0171-2345678", "020 7946 0958", "07700 900123", "01 23 45 67 89", "01.23.45.67.89", "(030) 901 82 00", "03-1234-5678",
    "+7 (912) 345-67-89", "+971 50 123 4567", "+4930901820", "+4915112345678", "0171 / 1234567", "030 / 9018200", "(030) / 9018200",
    "0171 \u2013 1234567", "555\u2011010\u20110123", "030\u20119018200", "(11) 91234-5678", "(11) 3123-4567", "11 91234-5678",
    "8 (912) 345-67-89", "8(912)345-67-89", "8-800-555-35-35", "8 912 345 67 89", r"\u002b49 30 901820", r"+49\u00a030\u2011901820",
    r"030\/9018200", "01 02 03 04 06", "300 500 7001",
]  # fmt: skip

CARDS = [
    "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "5555555555554444", "2223003122003222", "378282246310005",
    "3782 822463 10005", "6011111111111117", "30569309025904", "3056 930902 5904", "3530111333300000", "6200000000000005", "4222222222222",
    "6759649826438453", "4111\u00a01111\u00a01111\u00a01111", "2200770212727079", "4111\u20111111\u20111111\u20111111",
    "4111\u20101111\u20101111\u20101111", "4111\u20131111\u20131111\u20131111", r"4111\u20111111\u20111111\u20111111", r"4111\u00a01111\u00a01111\u00a01111",
]  # fmt: skip

IBANS = [
    "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB29 NWBK 6016 1331 9268 19", "FR14 2004 1010 0505 0001 3M02 606",
    "NL91ABNA0417164300", "CH93 0076 2011 6238 5295 7", "NO93 8601 1117 947", "MT84MALT011000012345MTLCAST001S", "de89 3704 0044 0532 0130 00",
    "BE68-5390-0754-7034", "PL61109010140000071219812874", "SA0380000000608010167519",
    "DE89\u20113704\u20110044\u20110532\u20110130\u201100", r"DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "DE89 370400440532013000",
    "DE89 370 400 440 532 013 000",
]  # fmt: skip

LOOK_ALIKES = [
    # Numbers of orders, parcels, accounts, devices
    "Order 114-3941689-8772232", "order #1234567890", "Bestellung 20261127-0042", "invoice 2026-000123", "1Z999AA10123456784", "JD014600006281230704",
    "ticket 5550100123", "IMEI 490154203237518", "IMEI 353879234252633", "customer 4111111111111112", "account 1234 5678 9012 3456", "ID 00001234567890",
    "EAN 4006381333931", "ISBN 978-3-16-148410-0", "ISBN 0-306-40615-2", "VAT DE123456789", "GB82 WEST 1234 5698 7654 33", "DE00 3704 0044 0532 0130 00",
    "SSN 078-05-1120", "tax 12/345/67890", "case 02-1234", "part 555-0100", "A-4111-1111",
    "SKU 030-123456", "sku: 030-123456", "Part no. 030-1234567", "order 555-010-0123", "Artikel-Nr. 030/1234567", "ref #020 7946 0958",
    "order id 007-6036926-1342842", "Bestellnummer: 030-1234567", "Kundennummer 0123 456789", "Auftragsnummer 0151 1234567",
    "Kunden-Nr. 0151 1234567", "Sendungsnummer 0034 0434 1610", "customer no. 0201 555123", "**Order number:** 030-1234567",
    "| Order | 030-1234567 |", "<order>030-1234567</order>", r"{\"order\": \"030-1234567\"}", "Kundennummer ist 0123 456789",
    "customer id = 555-010-0123", "Windows Phone 8.1.14219", "Windows Phone 2012-10-29", "phone 27.11.2026",
    # Times
    "2026-11-27T04:05:06.789Z", "27.11.2026", "11/27/2026 04:05", "01-02-2026 10:20", "01.02.2026", "1763600000000", "1763600000000000", "20261127040506",
    "from 2020-2021", "04:05:06", "05/06 2026", "+01:00", "UTC+0530",
    # Addresses, versions, code
    "192.168.100.101", "10.0.0.1:8080", "2001:db8:85a3::8a2e:370:7334", "v1.2.3-rc.4", "1.22.333.4444", "left-pad@1.3.0", "@types/node@20.11.5",
    "npm i react@latest", "@app.route('/x')", "@ada", "a @ b", '["x!", "@example.com"]', '"x!","@example.com"', "icon@2x.png", "logo@3x.retina.png", "git@github.com:org/repo.git", "user@localhost",
    "SELECT @@version", "x@y", "ssh://host:22/a@b", "100%40", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "550e8400-e29b-41d4-a716-446655440000", "41111111-1111-1111-1111-111111111111", "0x4111111111111111", "a4111111111111111", "4111111111111111f",
    "deadbeef41111111111111119", "12345678-4111-1111-1111-123456789012",
    "ee82893d-af17-458a-aa86-7daeac2a2953", "3fc6ac9c-5e0a-4b49-be94-581cecd976d3", "ee88559b-cef2-4868-8188-4de827b18c01",
    r"C:\new\table\report.txt", r"\u00fc\n\t", "AE12 abcd 1234 abcd 1234 abc",
    # Amounts and measures
    "0.4111111111111111", "3.141592653589793", "1,234,567,890.12", "1 234 567 890", "10 000 000 EUR", "$1234567.89", "+1000000 points", "+12345678", "+40.689247",
    "40.689247, -74.044502", "-122.4194155", "100-200-300", "0.5 0.25 0.125", "02 03 04", "5 000 000 000", "+5 %", "1e10", "2**31 = 2147483648",
    "4000 2000 3000 1001", "10-20-30-40", "0123456789", "01 02 03 04 05", "050-100-150",
    "300 500 7000", "010 020 030",
]  # fmt: skip

AROUND = [
    "{}", "Write to {}.", "({})", "<{}>", "mine: {}, thanks", "“{}”", '{{"x": "{}"}}', "a\n{}\nb", "{}?", "[{}]", "'{}'", "`{}`", "_{}_",
    "__{}__", "*{}*", "**{}**", "*_{}_*", "~~{}~~", "| {} |", "|{}|", "> {}", "<b>{}</b>", "call<br/>{}<br/>", r'{{"x": "Call\n{}\n"}}',
    r'"Here:\t{}\t"', r'"a\r\n{}\r\n"', r'{{\"x\": \"{}\"}}', r'"{{\"x\": \"a\\n{}\\n\"}}"', r"'a\xa0{}\xa0'", r'"caf\u00e9 \ud83d\ude00{}\ud83d\ude00"',
]  # fmt: skip


@pytest.mark.parametrize(
    ("mask", "marker", "texts"),
    [(emails, "[email]", EMAILS), (phone_numbers, "[phone]", PHONES), (card_numbers, "[card]", CARDS), (ibans, "[iban]", IBANS)],
    ids=["emails", "phones", "cards", "ibans"],
)  # fmt: skip
@pytest.mark.parametrize("around", AROUND)
def test_personal_data_is_replaced_wherever_it_stands(
    mask: masks.MaskFunction, marker: str, texts: list[str], around: str
) -> None:
    wrong = {text: masked for text in texts if (masked := mask(around.format(text), "", "")) != around.format(marker)}
    assert wrong == {}


@pytest.mark.parametrize("around", [r"\u00fc{}", r"\u00fc{}\u00fc", "ü{}", "电话{}电话"])
@pytest.mark.parametrize(
    ("mask", "marker", "texts"),
    [(phone_numbers, "[phone]", PHONES), (card_numbers, "[card]", CARDS), (ibans, "[iban]", IBANS)],
    ids=["phones", "cards", "ibans"],
)  # fmt: skip
def test_a_number_is_replaced_beside_a_letter_that_is_not_ascii(
    mask: masks.MaskFunction, marker: str, texts: list[str], around: str
) -> None:
    wrong = {text: masked for text in texts if (masked := mask(around.format(text), "", "")) != around.format(marker)}
    assert wrong == {}


@pytest.mark.parametrize("texts", [EMAILS, PHONES, CARDS, IBANS], ids=["emails", "phones", "cards", "ibans"])
def test_each_is_replaced_in_json_by_its_own_mark(texts: list[str]) -> None:
    marker = {id(EMAILS): "[email]", id(PHONES): "[phone]", id(CARDS): "[card]", id(IBANS): "[iban]"}[id(texts)]
    for text in texts:
        if "\\" not in text:
            for ascii_only in (True, False):
                result = json.dumps({"note": f"Grüße\n{text}\t!"}, ensure_ascii=ascii_only)
                expected = json.dumps({"note": f"Grüße\n{marker}\t!"}, ensure_ascii=ascii_only)
                assert personal_data(result, "output.output", "tool_call") == expected


@pytest.mark.parametrize("around", [*AROUND, "see {} and {}"])
def test_look_alikes_stay(around: str) -> None:
    wrong = {}
    for text in LOOK_ALIKES:
        given_text = around.format(text, text)
        if (masked := personal_data(given_text, "input.note", "tool_call")) != given_text:
            wrong[text] = masked
    assert wrong == {}


def test_several_in_one_text() -> None:
    text = "Ada <ada@example.org>, +49 30 901820, card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00 please, order 4711."
    assert personal_data(text, "", "") == "Ada <[email]>, [phone], card [card], IBAN [iban] please, order 4711."


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("5550100123", "input.phone", "[phone]"), ("5550100", "properties.phone_number", "[phone]"), ("5550100123", "input.order", "5550100123"),
        ("none", "input.phone", "none"), ("Phone: 5550100123", "text", "Phone: [phone]"), ("tel. 5550100", "text", "tel. [phone]"),
        ("mobile 01712345678", "text", "mobile [phone]"), ("telemetry 5550100123", "text", "telemetry 5550100123"),
        ("my phone number is 5550100123", "text", "my phone number is [phone]"), ("Phone: **5550100123**", "text", "Phone: **[phone]**"),
        ("**Phone:** 5550100123", "text", "**Phone:** [phone]"), ("Phone (mobile): 5550100123", "text", "Phone (mobile): [phone]"),
        ("| Phone | 5550100123 |", "text", "| Phone | [phone] |"), ("<phone>5550100123</phone>", "text", "<phone>[phone]</phone>"),
        ('{"phone": "5550100123"}', "text", '{"phone": "[phone]"}'), (r'{\"phone\": \"5550100123\"}', "text", r'{\"phone\": \"[phone]\"}'),
        (r'"Phone:\n5550100123\n"', "text", r'"Phone:\n[phone]\n"'), ("Meine Handynummer ist 1711234567", "text", "Meine Handynummer ist [phone]"),
        ("_phone_ 5550100123", "text", "_phone_ [phone]"), ("user_phone=5550100123", "text", "user_phone=[phone]"),
        ("Windows Phone 8.1.14219", "text", "Windows Phone 8.1.14219"), ("customer 030 9018200", "text", "customer [phone]"),
        ("for my order\n030 9018200", "text", "for my order\n[phone]"),
    ],
)  # fmt: skip
def test_a_number_is_a_phone_number_after_such_a_word_or_under_such_a_key(text: str, path: str, expected: str) -> None:
    assert phone_numbers(text, path, "tool_call") == expected


EARLIEST, LATEST = datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2099-12-31")
NUMBERS = st.integers(0, 2**128 - 1)
IDENTIFIERS = st.one_of(
    NUMBERS.map(lambda number: str(uuid.UUID(int=number, version=4))),
    # Version 7: milliseconds of this decade, then chance.
    st.builds(
        lambda time, number: str(
            uuid.UUID(int=(time << 80 | 7 << 76 | 2 << 62) | number & ~(15 << 76 | 3 << 62) % 2**80)
        ),
        st.integers(1_577_836_800_000, 1_893_456_000_000),
        st.integers(0, 2**80 - 1),
    ),
    st.sampled_from([32, 40, 64]).flatmap(lambda length: st.text("0123456789abcdef", min_size=length, max_size=length)),
    st.datetimes(EARLIEST, LATEST, timezones=st.one_of(st.none(), st.timezones())).map(
        lambda moment: moment.isoformat()
    ),
)


@given(
    IDENTIFIERS,
    st.sampled_from(
        ["{}", "id={}", '{{"id": "{}"}}', r"Run:\n{}\n", "phone: {}", "/users/{}/", "**{}**", "run-{}", "+{}"]
    ),
)
def test_ids_hashes_and_times_stay(identifier: str, around: str) -> None:
    for written in (identifier, identifier.upper()):
        text = around.format(written)
        assert personal_data(text, "", "") == text


def test_a_hundred_thousand_uuids_stay() -> None:
    chance = random.Random(5)
    text = "\n".join(str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(100_000))
    assert personal_data(text, "", "") == text


def luhn_digit(digits: str) -> str:
    total = sum(sum(divmod(int(digit) * (2 if n % 2 == 0 else 1), 10)) for n, digit in enumerate(reversed(digits)))
    return str(-total % 10)


@given(st.sampled_from(["4", "51", "55", "2221", "2720", "6011", "65"]), st.randoms(use_true_random=False))
def test_every_card_number_of_16_digits_is_replaced_and_no_mistyped_one(prefix: str, chance: random.Random) -> None:
    digits = prefix + "".join(chance.choices("0123456789", k=15 - len(prefix)))
    number = digits + luhn_digit(digits)
    for separator in ("", " ", "-"):
        grouped = separator.join(number[n : n + 4] for n in range(0, 16, 4))
        assert card_numbers(f"pay {grouped} now") == "pay [card] now"
    wrong = f"pay {digits}{(int(number[-1]) + 1) % 10} now"
    assert card_numbers(wrong) == wrong


@given(st.text("0123456789", min_size=18, max_size=18))
def test_every_german_iban_is_replaced_and_no_mistyped_one(account: str) -> None:
    check = 98 - int(account + "131400") % 97
    iban = f"DE{check:02}{account}"
    assert ibans(f"to {iban} today") == "to [iban] today"
    assert ibans(" ".join(iban[n : n + 4] for n in range(0, 22, 4)) + " today") == "[iban] today"
    wrong = f"DE{(check + 1) % 100:02}{account}"
    assert ibans(wrong) == wrong


@given(st.text(st.sampled_from("0123456789 +-.()@abDE%4\n"), max_size=80))
def test_a_masked_text_is_not_changed_again(text: str) -> None:
    once = personal_data(text, "", "")
    assert emails(once) == once
    assert card_numbers(once) == once
    assert ibans(once) == once


def test_long_texts_are_masked_in_linear_time() -> None:
    for text in (
        "a" * 200_000,
        "a." * 100_000 + "@",
        "1 " * 100_000,
        "+1" * 100_000,
        "0" * 200_000,
        "DE12 " * 40_000,
        "@" * 100_000,
        "(" * 100_000,
        "\\" * 200_000,
        r"\n" * 100_000,
        r"\u00fc" * 30_000,
        "_" * 200_000,
        "phone " * 30_000,
        "0123abcd-" * 20_000,
    ):
        assert personal_data(text, "", "") == text


def test_masks_can_be_combined_with_others_and_pickled() -> None:
    def names(text: str, path: str, kind: str) -> str:
        return text.replace("Ada", "[name]")

    assert combine(names, emails)("Ada: ada@example.org", "", "") == "[name]: [email]"
    assert combine()("Ada", "", "") == "Ada"
    assert pickle.loads(pickle.dumps(emails)) is emails


def test_a_ready_made_mask_is_an_option() -> None:
    with capture(mask=masks.personal_data) as captured:
        ScriptedChatModel(replies=["Sent to ada@example.org."]).invoke("Mail ada@example.org or call +49 30 901820")
    assert captured.transcript() == [("user", "Mail [email] or call [phone]"), ("assistant", "Sent to [email].")]
    assert observe.stats().mask_failures == 0


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4111111111111111 12/29 123", "[card] 12/29 123"),
        ("17,4111111111111111,12/29,123", "17,[card],12/29,123"),
        ("4111 1111 1111 1111 12/29", "[card] 12/29"),
        ("4111-1111-1111-1111 123", "[card] 123"),
        ("4111111111111111 5555555555554444", "[card] [card]"),
        ("4111 1111 1111 1111 1111", "4111 1111 1111 1111 1111"),
    ],
)
def test_a_card_number_is_recognized_beside_its_date_and_code_or_in_a_table(text: str, masked: str) -> None:
    assert masks.card_numbers(text) == masked


def test_an_address_before_a_dash_is_recognized() -> None:
    assert masks.emails("to ada@example.com- and bob@example.com-a") == "to [email]- and bob@example.com-a"

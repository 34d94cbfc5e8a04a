"""Words and sentences in any script."""

from __future__ import annotations

import unicodedata

import pytest

from gati.trace.scripts import is_one_word, is_sentence

SENTENCES = (
    "Shall I send it?",
    "Buy 2 tickets for Ann?",
    "It's sixty-two, isn't it?",
    "Größer als möglich.",
    "क्या मैं यह ईमेल भेज दूँ?",
    "நான் இதை அனுப்பவா?",
    "هل أُرسِلُ هذه الرسالة؟",
    "האם לשלוח את זה?",
    "Отправить это письмо сейчас?",
    "이 메일을 보낼까요?",
    "要发送这封邮件吗?",
    "ส่งอีเมลนี้ไหม",
)
"""One in each script."""
NO_SENTENCES = (
    "",
    "waiting",
    "run 8f14e45f waits 12",
    "Buy 2 tickets",
    "https://example.org/a ann@example.org task_id=7",
    "/var/lib/data /tmp/x C:\\mails",
    "要发",
)
WORDS = ("funny", "42", "отлично", "médiocre", "größer", "अच्छा", "جيد", "Ja.", "好", "确定")
NO_WORDS = ("", " ", "two words", "अच्छा काम", "这是一个很好的笑话", "x" * 21)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentence_is_one_in_every_script_and_normal_form(text: str, form: str):
    assert is_sentence(unicodedata.normalize(form, text))  # type: ignore[arg-type]  # a literal of four forms


@pytest.mark.parametrize("text", NO_SENTENCES)
def test_labels_ids_and_addresses_are_no_sentence(text: str):
    assert not is_sentence(text)


@pytest.mark.parametrize("text", WORDS)
def test_a_single_word_of_any_script_is_one_word(text: str):
    assert is_one_word(f" {text}\n")


@pytest.mark.parametrize("text", NO_WORDS)
def test_phrases_and_long_texts_are_not_one_word(text: str):
    assert not is_one_word(text)

"""A journal that an earlier version left is recovered by this one.

`journals` holds a file for each version of the format, compressed. Each was written by a process that was killed with two
turns that had not been stored: one that had ended, and one in which a model had answered. Never write one again: it stands for
files on users' disks.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from gati.pipeline.record_journal.format import JOURNAL_VERSION
from gati.pipeline.spool import Spool
from tests.pipeline.record_journal.test_recovery import recover

JOURNALS = sorted(Path(__file__).parent.glob("journals/*.gz"))

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there are no journals")


def test_there_is_a_sample_of_each_version_of_the_format() -> None:
    assert [path.name for path in JOURNALS] == [f"version-{n}.journal.gz" for n in range(1, JOURNAL_VERSION + 1)]


@pytest.mark.parametrize("sample", JOURNALS, ids=lambda path: path.name)
def test_the_turns_in_a_journal_of_an_earlier_version_are_recovered(sample: Path, tmp_path: Path) -> None:
    spool = Spool(tmp_path, "kept", "account")
    spool.open()
    (spool.folder / "journals").mkdir()
    (spool.folder / "journals" / "0123456789ab.journal").write_bytes(gzip.decompress(sample.read_bytes()))
    ended, unfinished = recover(spool)
    assert [(turn.status, turn.agent_name, turn.conversation.user_id) for turn in (ended, unfinished)] == [
        ("completed", "killed", "ada"),
        ("unfinished", "killed", "ada"),
    ]
    assert [turn.messages[0].text for turn in (ended, unfinished)] == ["What is this?", "And now?"]
    assert ended.answer is not None
    assert ended.answer.text == "A journal."
    assert any("It ends here." in str(event) for event in unfinished.events)
    assert ended.started_ns // 10**9 // 86_400 // 365 >= 50, "the time is that of the process that wrote it"

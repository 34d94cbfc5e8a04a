"""The folder in which gati keeps files of the user: the spool and the embedded store."""

from __future__ import annotations

from pathlib import Path


def data_folder() -> Path | None:
    """Return gati's folder in the user's data folder.

    None if there is no home folder, as in a container whose user has neither HOME nor an entry in `/etc/passwd`.
    """
    import platformdirs  # late: not needed if all paths are configured

    try:
        folder = platformdirs.user_data_path("gati", appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # earlier versions return "~/…" as it is

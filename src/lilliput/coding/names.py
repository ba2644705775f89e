"""File names inside a container: relative, plain, and the same on every system."""

import re

from lilliput.errors import ContainerError

MAX_LENGTH = 240
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.I)
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


def check_name(name: str) -> str:
    """The name itself, where it is safe to write below a folder: parts joined by ``/``.

    Raises:
        ContainerError: It is empty, too long, absolute, leaves the folder, or is no plain file
            name on some system.
    """
    parts = name.split("/")
    safe = 0 < len(name) <= MAX_LENGTH and not FORBIDDEN.search(name) and name.isprintable()
    if not safe or not all(_plain(part) for part in parts):
        raise ContainerError(f"an unsafe file name: {name[:80]!r}")
    return name


def _plain(part: str) -> bool:
    return bool(part) and part[-1] not in ". " and part[0] != " " and not DEVICES.fullmatch(part)


def check_names(names: list[str]) -> None:
    """Every name safe, and no two that are one file, or a file and a folder, on some system.

    Raises:
        ContainerError: As `check_name`, or on a clash.
    """
    seen: set[str] = set()
    folders: set[str] = set()
    for name in names:
        folded = check_name(name).casefold()
        parts = folded.split("/")
        above = {"/".join(parts[:size]) for size in range(1, len(parts))}
        if folded in seen or folded in folders or above & seen:
            raise ContainerError(f"two files of the same name: {name[:80]!r}")
        seen.add(folded)
        folders |= above

"""What survives a power loss: content reaches the disk before the name that vouches for it.

A rename is atomic for those who read, but a file system may write the new name before the data
(ext4's delayed allocation does), so that after a power loss a file has its name and no content.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edgetune.errors import InputError

# What a person, not edgetune, must change: full, read-only, forbidden, too long, not a folder.
_PLACE = {
    errno.ENOSPC: "the disk is full", errno.EDQUOT: "your disk quota is used up",
    errno.EROFS: "this file system is read-only", errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there", errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "a file lies there, not a folder", errno.EISDIR: "a folder lies there",
    errno.ELOOP: "a symbolic link there leads to itself",
    errno.ENOENT: "a symbolic link there leads nowhere",
}  # fmt: skip


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; file systems that cannot say are left."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders, and journals names by itself
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Wait until a file, or a folder with all that lies in it, is on the disk."""
    if not path.is_dir():
        sync_file(path)
        return
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            file = Path(folder, name)
            if file.is_file():
                sync_file(file)
        sync_folder(Path(folder))


def rename_whole(part: Path, final: Path) -> None:
    """Give a finished file or folder the name by which it is known to be whole."""
    sync_tree(part)
    part.replace(final)
    sync_folder(final.parent)


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader, or who comes after a power loss, sees the old or the new."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def check_place(path: Path, where: str = "--out") -> None:
    """Refuse a folder that cannot be made or written in, without making it.

    Raises:
        InputError: it says why.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise explain_place(error, path, where) from error
    for folder in (path, *path.absolute().parents):
        if os.path.lexists(folder):
            break
    if not folder.exists():
        raise explain_place(OSError(errno.ENOENT, ""), folder, where)
    if not folder.is_dir():
        kind = errno.EEXIST if folder == path else errno.ENOTDIR
        raise explain_place(OSError(kind, ""), folder, where)
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise explain_place(OSError(errno.EROFS, ""), folder, where)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise explain_place(OSError(errno.EACCES, ""), folder, where)


def make_folder(path: Path, where: str = "--out") -> None:
    """Make a folder and those above it.

    Raises:
        InputError: it cannot be made there; it says why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise explain_place(error, path, where) from error


def is_place_fault(error: OSError) -> bool:
    """Whether a fault is of the place: a full disk, no permission, a read-only file system.

    Not one of a missing file: that a file is not there where edgetune looks is a bug of ours.
    """
    return error.errno in _PLACE and error.errno not in (errno.ENOENT, errno.EEXIST, errno.ENOTDIR)


def explain_place(error: Exception, path: Path | str, where: str = "--out") -> InputError:
    """Return what the system said of a path in words of what can be done about it."""
    number = getattr(error, "errno", None)
    if not isinstance(error, OSError):  # a NUL in the name
        why = "this is no name of a folder"
    else:
        why = _PLACE.get(number or 0) or os.strerror(number or errno.EIO)
    shown = str(path)
    shown = shown if len(shown) <= 200 else f"{shown[:100]}…{shown[-60:]}"
    shown = shown.encode("unicode_escape").decode() if not shown.isprintable() else shown
    hint = "make room; the same command goes on" if number in (errno.ENOSPC, errno.EDQUOT) else (
        "name a folder that you can write in"
    )  # fmt: skip
    return InputError(f"cannot read or write {shown}: {why}", where=where, hint=hint)

"""A process's own view of the file system: everything that it writes goes to one place.

The machine's file systems are the lower layers of overlay mounts (kernel documentation, filesystems/overlayfs); what
the process creates, changes or deletes goes to upper layers in the node's own memory. Nothing that it writes reaches
the machine, and the upper layers hold every file that it wrote.

Runs in a process that init has forked, between fork and exec, so it imports as little as `harness.sandbox.init` does.
"""

from __future__ import annotations

import errno
import os

from harness.sandbox import syscalls

# The kernel's own file systems keep no files, and programs need some of them uncovered.
_KERNEL_TYPES = frozenset(
    {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "bpf", "securityfs", "pstore"}
    | {"efivarfs", "configfs", "fusectl", "hugetlbfs", "binfmt_misc", "nsfs", "rpc_pipefs", "autofs", "selinuxfs"}
)
_READ_ONLY = ("/dev",)  # an overlay in a user namespace opens no devices; a read-only mount does
_ESCAPED = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}  # proc_pid_mountinfo(5)


def enter(store: str, keep: list[str]) -> None:
    """In a mount namespace of its own, give the calling process overlays in place of the machine's file systems.

    `store` is an empty directory in the node's memory, which gets for each file system a `NUMBER/upper` with what was
    written, and a `NUMBER/point` with the path where it is mounted. The directories in `keep` stay as they are, with
    all mounts in them: what is written there is written to the machine. Raises OSError where the kernel refuses an
    overlay.

    1. Take each mount of this namespace, the upper ones first.
    2. Bring it into a new tree: as an overlay, or as it is where it is kept, or the kernel's, or a single file.
    3. Make the new tree the root.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    root = f"{store}/root"
    os.mkdir(root)  # noqa: PTH102 - without pathlib: harness.sandbox.init
    mounts = _mounts()
    tree = _Tree(store, {point for point, _ in mounts})
    for point, kind in mounts:
        if any(_below(point, directory) for directory in (store, *keep)):
            continue
        new = root + point.rstrip("/")
        if kind in _KERNEL_TYPES:
            _bind(point, new)
        elif point in _READ_ONLY or not os.path.isdir(point):  # noqa: PTH112 - without pathlib
            _bind(point, new, read_only=True)
        else:
            tree.cover(point, new)
    for directory in keep:
        syscalls.mount(directory, root + directory, None, syscalls.MS_BIND | syscalls.MS_REC)
    _become_root(root)


class _Tree:
    """The layers of the overlays, each with its own number."""

    def __init__(self, store: str, points: set[str]) -> None:
        self._store = store
        self._points = points
        self._layers = 0

    def cover(self, point: str, new: str) -> None:
        """Mount an overlay of the directory `point` on `new`.

        In a user namespace the kernel makes no overlay of a directory with older mounts below it, since the overlay
        would show the files that these hide. Then each entry is brought in by itself, into the upper layer.
        """
        layer = f"{self._store}/{self._layers}"
        self._layers += 1
        upper, work = f"{layer}/upper", f"{layer}/work"
        os.makedirs(upper)  # noqa: PTH103
        os.makedirs(work)  # noqa: PTH103
        with open(f"{layer}/point", "w", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            file.write(point)
        os.chmod(upper, os.stat(point).st_mode & 0o7777)  # noqa: PTH101, PTH116 - the overlay shows the upper's mode
        try:
            _mount_overlay(point, upper, work, new)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._has_mounts_below(point):
                raise
            syscalls.mount(upper, new, None, syscalls.MS_BIND)
            for entry in os.scandir(point):
                self._bring(entry, new)

    def _has_mounts_below(self, point: str) -> bool:
        return any(other != point and _below(other, point.rstrip("/")) for other in self._points)

    def _bring(self, entry: os.DirEntry[str], into: str) -> None:
        new = f"{into}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), new)  # noqa: PTH211
        elif entry.is_dir():
            os.mkdir(new)  # noqa: PTH102
            if entry.path not in self._points:
                self.cover(entry.path, new)
        else:
            os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC))
            _bind(entry.path, new, read_only=True)


def _mount_overlay(lower: str, upper: str, work: str, new: str) -> None:
    options = f"lowerdir={_quoted(lower)},upperdir={upper},workdir={work}"
    try:
        syscalls.mount("overlay", new, "overlay", 0, options)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        syscalls.mount("overlay", new, "overlay", 0, options + ",userxattr")  # in a user namespace


def _mounts() -> list[tuple[str, str]]:
    """Mount points and types of file systems; of several at one point the last, which is the one that can be seen."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        for line in file:
            fields = line.split(" ")
            point = fields[4]
            for escaped, character in _ESCAPED.items():
                point = point.replace(escaped, character)
            found.pop(point, None)
            found[point] = fields[fields.index("-") + 1]
    return sorted(found.items(), key=lambda mount: mount[0].count("/") if mount[0] != "/" else 0)


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def _bind(point: str, new: str, *, read_only: bool = False) -> None:
    """Bind a mount, with the mounts below it, to another place. A place that another mount hides is left out."""
    try:
        syscalls.mount(point, new, None, syscalls.MS_BIND | syscalls.MS_REC)
        if read_only:
            syscalls.make_read_only(new, recursive=False)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise


def _quoted(path: str) -> str:
    """The name of a lower directory as an option: `:` and `,`, which separate directories and options there, are
    escaped."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _become_root(root: str) -> None:
    """pivot_root(2): where both names are one, the old root comes to lie over the new one, and can be unmounted."""
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".")
    os.chdir("/")

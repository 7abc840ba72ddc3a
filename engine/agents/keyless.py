"""A command of an agent in its VM, without the step's keys: it may be code that a model wrote. Used by the toolbox.

On the target an agent runs what the policy allows, and nothing else holds it to that once it has the login's key. So
the command gets a view of the files in which the folders of keys are empty, and cannot get behind it: the view is made
in one user namespace and locked by a second (user_namespaces(7), mount_namespaces(7) on locked mounts). Where that
cannot be had the command is not run.
"""

from __future__ import annotations

_HIDE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER, RDONLY, NOSUID, NODEV, NOEXEC, REC, PRIVATE = 1 << 17, 1 << 28, 1, 2, 4, 8, 1 << 14, 1 << 18
def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what)
def enter(inside, outside):
    check(libc.unshare(NEWUSER | NEWNS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", "%d %d 1" % (inside[0], outside[0])),
                       ("gid_map", "%d %d 1" % (inside[1], outside[1]))):
        with open("/proc/self/" + name, "w") as file:
            file.write(text)
def mount(kind, where, flags, data):
    check(libc.mount(b"none", where.encode(), kind, ctypes.c_ulong(flags), data), "hide " + where)
try:
    own = os.getuid(), os.getgid()
    enter((0, 0), own)
    mount(None, "/", REC | PRIVATE, None)
    for folder in ("/run/secrets", "/step/.ssh"):
        if os.path.lexists(folder):
            mount(b"tmpfs", folder, RDONLY | NOSUID | NODEV | NOEXEC, b"size=4k,mode=000")
    enter(own, (0, 0))
except OSError as error:
    print("the step's keys could not be hidden: %s" % error, file=sys.stderr)
    sys.exit(125)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    print("%s: %s" % (sys.argv[1], error.strerror), file=sys.stderr)
    sys.exit(127)
"""
_BEFORE = ("/usr/bin/python3", "-IS", "-c", _HIDE)


def keyless(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs this one so. It exits 127 for a program that is not there, 125 where nothing was run."""
    return (*_BEFORE, *argv)


def plain(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command itself, of one that runs so or not."""
    return argv[len(_BEFORE) :] if argv[: len(_BEFORE)] == _BEFORE else argv

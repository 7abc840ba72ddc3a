"""A runbook as it is in a revision of git. Called by the commands; the engine itself knows no git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from engine.domain.errors import BadInput
from engine.runbooks.folder import MAX_FILES, MAX_FOLDER_BYTES, is_part
from engine.runbooks.positions import MAX_BYTES

GIT_S = 20


def names(folder: Path, revision: str) -> tuple[str, ...]:
    """The runbooks that this revision has in the folder; raises BadInput."""
    listed = _git(folder, "ls-tree", "-z", "--name-only", f"{_plain(folder, revision)}:./").decode("utf-8", "replace")
    return tuple(sorted(path.removesuffix(".yaml") for path in listed.split("\0") if path.endswith(".yaml")))


def texts(folder: Path, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
    """The YAML and the files of the folder in this revision; raises BadInput when it has no such runbook."""
    commit = _plain(folder, revision)
    if name not in names(folder, revision):
        raise BadInput(f"{revision} has no runbook {name}", "name another revision, or a file")
    source = _git(folder, "cat-file", "blob", f"{commit}:./{name}.yaml")
    listed = _git(folder, "ls-tree", "-r", "-z", "--name-only", commit, "--", f"{name}/")
    paths = [path for path in listed.decode("utf-8", "replace").split("\0") if path]
    files = {path.partition("/")[2]: path for path in paths}
    kept = {short: path for short, path in files.items() if is_part(short)}
    if len(kept) > MAX_FILES or len(source) > MAX_BYTES:
        raise BadInput(f"{name} of {revision} is larger than a runbook may be", "name another revision")
    found = {short: _git(folder, "cat-file", "blob", f"{commit}:./{path}") for short, path in kept.items()}
    return source.decode("utf-8", "replace"), found


def _plain(folder: Path, revision: str) -> str:
    """The commit that is meant; what begins with a hyphen would be an option."""
    if revision.startswith("-") or ":" in revision:
        raise BadInput(f"{revision[:60]!r} is no revision", "name a commit, a tag or a branch")
    return _git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()


def _git(folder: Path, *argv: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *argv], capture_output=True, timeout=GIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise BadInput("there is no git", "install git, or compare with a file") from None
    except subprocess.TimeoutExpired:
        raise BadInput(f"git did not answer within {GIT_S} s", "try again") from None
    if done.returncode != 0 or len(done.stdout) > MAX_FOLDER_BYTES:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        what = said[0][:200] if said else f"{argv[-1][:60]} is not there"
        raise BadInput(f"git in {folder}: {what}", "name a revision of the repository that holds the runbooks")
    return done.stdout

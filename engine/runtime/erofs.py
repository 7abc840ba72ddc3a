"""Reads an EROFS image without mounting it: names, modes, owners, links, small files. For `engine.runtime.inspection`.

Neither a kernel of this machine nor a program that runs as root looks at an image that somebody brought along; this
does, bounded, and writes nothing. Compressed content is not read. Format: https://docs.kernel.org/filesystems/erofs.html
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.domain.errors import BadInput

MAGIC = 0xE0F5E1E2
SUPERBLOCK = 1024
SLOT = 32
PLAIN, INLINE = 0, 2
MAX_NODES = 500_000
MAX_DEPTH = 64
MAX_FOLDER_BYTES = 16 << 20
MAX_LINKS = 40
LINK_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One file, folder or link; `layout` and the rest say where its bytes are."""

    mode: int
    uid: int
    gid: int
    size: int
    layout: int
    block: int
    tail: int


@contextmanager
def opened(file: Path) -> Iterator[Tree]:
    """The image in `file`, as long as the block lasts. Raises BadInput for what is none."""
    try:
        with file.open("rb") as held:
            yield Tree(file, held.fileno())
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}", "see that it is a file, and yours") from None


class Tree:
    """Everything in an image by its path (`usr/bin/env`; the root is the empty string)."""

    def __init__(self, file: Path, descriptor: int) -> None:
        self._file, self._fd = file, descriptor
        self._end = os.fstat(descriptor).st_size
        self._superblock()
        self.nodes: Mapping[str, Node] = dict(self._walk())

    def find(self, path: str) -> tuple[str, Node] | None:
        """Where `path` leads within the root, links followed, and what is there; None when nothing is."""
        todo, here = [part for part in reversed(path.split("/")) if part], ""
        for _ in range(MAX_LINKS * MAX_DEPTH):
            if not todo:
                return (here, self.nodes[here]) if here in self.nodes else None
            part = todo.pop()
            if part in {".", ".."}:
                here = here.rpartition("/")[0] if part == ".." else here
                continue
            there = f"{here}/{part}".lstrip("/")
            node = self.nodes.get(there)
            if node is None:
                return None
            if stat.S_ISLNK(node.mode):
                target = os.fsdecode(self.content(there, LINK_BYTES) or b"")
                here = "" if target.startswith("/") else here
                todo += [step for step in reversed(target.split("/")) if step]
            else:
                here = there
        return None

    def content(self, path: str, limit: int) -> bytes | None:
        """The bytes of a file or link up to `limit`; None when it is larger or compressed."""
        node = self.nodes[path]
        return self._bytes(node) if node.size <= limit else None

    # -- the format

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._end:
            raise self._nonsense("it ends too early")
        return os.pread(self._fd, size, offset)

    def _nonsense(self, why: str) -> BadInput:
        return BadInput(f"{self._file} is no EROFS image that can be read: {why}", "make it with mkfs.erofs")

    def _superblock(self) -> None:
        head = self._read(SUPERBLOCK, 128)
        (magic,) = struct.unpack_from("<I", head)
        if magic != MAGIC:
            raise self._nonsense("it does not begin as one")
        bits, self._root, self._meta = struct.unpack_from("<BxH24xI", head, 12)
        if not 9 <= bits <= 16:
            raise self._nonsense(f"blocks of 2^{bits} bytes")
        self._block = 1 << bits

    def _walk(self) -> Iterator[tuple[str, Node]]:
        todo: list[tuple[str, int]] = [("", self._root)]
        folders: set[int] = set()
        for _ in range(MAX_NODES):
            if not todo:
                return
            path, nid = todo.pop()
            node = self._node(nid)
            yield path, node
            if stat.S_ISDIR(node.mode):
                if nid in folders:
                    raise self._nonsense("a folder lies in two places")
                if path.count("/") > MAX_DEPTH:
                    raise self._nonsense(f"more than {MAX_DEPTH} folders deep")
                folders.add(nid)
                todo += ((f"{path}/{name}".lstrip("/"), child) for name, child in self._entries(node))
        raise self._nonsense(f"more than {MAX_NODES} files")

    def _node(self, nid: int) -> Node:
        at = self._meta * self._block + nid * SLOT
        how, xattrs, mode = struct.unpack_from("<HHH", raw := self._read(at, 32))
        if how & 1:
            raw += self._read(at + 32, 32)
            size, block, _, uid, gid = struct.unpack_from("<QIIII", raw, 8)
        else:
            size, _, block, _, uid, gid = struct.unpack_from("<IIIIHH", raw, 8)
        tail = at + len(raw) + (12 + 4 * (xattrs - 1) if xattrs else 0)
        return Node(mode=mode, uid=uid, gid=gid, size=size, layout=how >> 1 & 7, block=block, tail=tail)

    def _bytes(self, node: Node) -> bytes | None:
        """What a file, folder or link holds; None when it is compressed."""
        if node.layout not in {PLAIN, INLINE}:
            return None
        within = node.size % self._block if node.layout == INLINE else 0
        plain = node.size - within
        data = self._read(node.block * self._block, plain) if plain else b""
        return data + (self._read(node.tail, within) if within else b"")

    def _entries(self, folder: Node) -> Iterator[tuple[str, int]]:
        data = self._bytes(folder) if folder.size <= MAX_FOLDER_BYTES else None
        if data is None:
            raise self._nonsense("a folder is too large or compressed")
        for begin in range(0, len(data), self._block):
            yield from self._block_entries(data[begin : begin + self._block])

    def _block_entries(self, block: bytes) -> Iterator[tuple[str, int]]:
        """A block is a table of (inode, where its name begins), then the names one after another."""
        try:
            (first,) = struct.unpack_from("<H", block, 8)
            table = [struct.unpack_from("<QH", block, at) for at in range(0, first, 12)]
        except struct.error:
            raise self._nonsense("a folder's table ends too early") from None
        if not table:
            raise self._nonsense("a folder's table is empty")
        ends = [begin for _, begin in table[1:]] + [len(block)]
        for (nid, begin), end in zip(table, ends, strict=True):
            name = block[begin:end].split(b"\0", 1)[0]
            if name in {b".", b".."}:
                continue
            if not name or b"/" in name:
                raise self._nonsense("a file has an impossible name")
            yield os.fsdecode(name), nid

"""Merkle trees with the hashes of RFC 6962 (section 2.1): a root stands for all leaves in order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows, of which only the roots of whole subtrees are kept."""

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        self.size = 0
        self._whole: list[bytes] = []
        for leaf in leaves:
            self.add(leaf)

    def add(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        size, node = self.size, leaf
        while size & 1:
            node, size = _node_hash(self._whole.pop(), node), size >> 1
        self._whole.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the root, 32 bytes."""
        if not self._whole:
            return hashlib.sha256(b"").digest()
        *rest, node = self._whole
        for left in reversed(rest):
            node = _node_hash(left, node)
        return node

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


def _split(size: int) -> int:
    """Return the largest power of two below the size."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that lead from a leaf to the root of all, the lowest first."""
    if len(leaves) == 1:
        return []
    at = _split(len(leaves))
    left, right = leaves[:at], leaves[at:]
    if index < at:
        return [*inclusion_proof(left, index), Tree(right).root()]
    return [*inclusion_proof(right, index - at), Tree(left).root()]


def root_of_proof(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root that a proof leads to from the hash of the leaf at `index` of `size`.

    Raises:
        ValueError: the proof is of another length, or there is no such leaf.
    """
    if not 0 <= index < size or (size > 1) != bool(proof):
        raise ValueError("this is no proof of inclusion at this place")
    if size == 1:
        return leaf
    *rest, last = proof
    at = _split(size)
    if index < at:
        return _node_hash(root_of_proof(leaf, index, at, rest), last)
    return _node_hash(last, root_of_proof(leaf, index - at, size - at, rest))

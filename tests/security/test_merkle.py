"""Merkle trees: the roots that are known of RFC 6962's hashes, and laws."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from modelwright.security.merkle import Tree, leaf_hash

INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657",
          "606162636465666768696a6b6c6d6e6f"]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The test tree of Certificate Transparency's reference implementation, after each leaf."""
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]


def test_the_roots_of_the_known_tree():
    tree = Tree()
    assert tree.root() == hashlib.sha256(b"").digest()
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        tree.add(leaf)
        assert tree.root().hex() == root


HASHES = st.lists(st.binary(max_size=4).map(leaf_hash), min_size=1, max_size=40)


@given(HASHES, st.data())
def test_any_change_of_the_leaves_changes_the_root(leaves, data):
    at = data.draw(st.integers(0, len(leaves) - 1))
    root = Tree(leaves).root()
    assert Tree([*leaves[:at], leaf_hash(b"other leaf"), *leaves[at + 1 :]]).root() != root
    assert Tree([*leaves[:at], *leaves[at + 1 :]]).root() != root
    assert Tree([*leaves, leaves[at]]).root() != root

"""Merkle trees: the roots and paths that are known of RFC 6962's hashes, and laws."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.security.merkle import Tree, inclusion_proof, leaf_hash, root_of_proof

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


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 1, []),
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            3,
            ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
        ),
    ],
)
def test_the_paths_of_the_known_tree(index, size, path):
    proof = inclusion_proof(LEAVES[:size], index)
    assert [node.hex() for node in proof] == path
    assert root_of_proof(LEAVES[index], index, size, proof).hex() == ROOTS[size - 1]


HASHES = st.lists(st.binary(max_size=4).map(leaf_hash), min_size=1, max_size=40)


@given(HASHES, st.data())
def test_a_proof_leads_to_the_root_and_to_no_other(leaves, data):
    size = len(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(leaves, index), Tree(leaves).root()
    assert root_of_proof(leaves[index], index, size, proof) == root
    assert root_of_proof(leaf_hash(b"other leaf"), index, size, proof) != root
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:at], bytes(32), *proof[at + 1 :]]
        assert root_of_proof(leaves[index], index, size, changed) != root


@given(HASHES, st.data())
def test_any_change_of_the_leaves_changes_the_root(leaves, data):
    at = data.draw(st.integers(0, len(leaves) - 1))
    root = Tree(leaves).root()
    assert Tree([*leaves[:at], leaf_hash(b"other leaf"), *leaves[at + 1 :]]).root() != root
    assert Tree([*leaves[:at], *leaves[at + 1 :]]).root() != root
    assert Tree([*leaves, leaves[at]]).root() != root


@pytest.mark.parametrize(
    ("index", "size", "length"), [(0, 0, 0), (1, 1, 0), (-1, 3, 1), (0, 1, 1), (0, 4, 1), (3, 4, 3)]
)
def test_a_proof_that_does_not_fit_is_refused(index, size, length):
    with pytest.raises(ValueError, match="no proof"):
        root_of_proof(LEAVES[0], index, size, [bytes(32)] * length)

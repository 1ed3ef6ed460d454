"""What in the section of a network doesn't fit together is refused where the recipe is read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from modelwright.errors import RecipeError
from modelwright.recipe import parse_recipe
from modelwright.recipe.model import HUB_NAME, TransformersModel
from modelwright.recipe.networks import ConvCtcModel, DecoderModel, Seq2SeqModel, TransformerModel


@pytest.mark.parametrize(
    ("family", "name", "sizes", "words"),
    [
        (TransformerModel, "transformer", {"width": 8, "heads": 3}, "multiple of `heads`"),
        (Seq2SeqModel, "seq2seq", {"width": 16, "heads": 3}, "multiple of `heads`"),
        (DecoderModel, "decoder", {"width": 18, "heads": 4}, "multiple of 8"),
        (DecoderModel, "decoder", {"width": 12, "heads": 4}, "multiple of 8"),
        (DecoderModel, "decoder", {"width": 16, "heads": 4, "kv_heads": 3}, "`kv_heads`"),
        (ConvCtcModel, "conv-ctc", {"kernel": 4}, "odd"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(family, name, sizes, words):
    with pytest.raises(ValidationError, match=words):
        family(name=name, **sizes)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "repo", "revision"),
    [
        ("org/name", "org/name", None),
        ("Org-1/all-MiniLM-L6-v2", "Org-1/all-MiniLM-L6-v2", None),
        ("timm/resnet18.a1_in1k@main", "timm/resnet18.a1_in1k", "main"),
        ("o/n@refs/pr/1", "o/n", "refs/pr/1"),
        (f"o/n@{COMMIT}", "o/n", COMMIT),
    ],
)
def test_the_name_of_a_repository_may_say_a_revision(name, repo, revision):
    section = TransformersModel(name="transformers", hub=name)
    assert section.is_pretrained
    found = HUB_NAME.fullmatch(section.hub)
    assert (found["repo"], found["revision"]) == (repo, revision)


@pytest.mark.parametrize(
    "name",
    [
        *("", "name", "/name", "org/", "org/name/more", "../name", "org/..", "org/na--me"),
        *(
            "org/name@",
            "@main",
            "org/name@../x",
            "org/name@a//b",
            "org/name@main@main",
            "org/name ",
        ),
        *("https://huggingface.co/org/name", "org/name?x", "org/nämé", "-org/name"),
    ],
)
def test_what_is_no_name_of_a_repository_is_refused(name):
    with pytest.raises(ValidationError, match="write ORG/NAME"):
        TransformersModel(name="transformers", hub=name)


@pytest.mark.parametrize(
    ("task", "model", "words"),
    [
        ("text", "{name: transformers, path: a, hub: o/n}", "`path` and `hub` both say where"),
        ("text", "{name: transformers}", "write `path`, a folder, or `hub`"),
        ("image", "{name: timm, model: a, weights: b, hub: o/n}", "`weights` and `hub` both say"),
        ("image", "{name: timm}", "write `model`, the name of a network, or `hub`"),
        ("image", "{name: timm, hub: resnet18}", "'resnet18' isn't the name of a repository"),
    ],
)
def test_a_network_comes_from_one_place(task, model, words):
    text = f"version: 1\ntask: {task}-classification\ndata: {{source: folder, path: x}}\n"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"{text}model: {model}\n", where="recipe.yaml")
    assert words in str(caught.value)
    assert caught.value.where == "recipe.yaml:4"

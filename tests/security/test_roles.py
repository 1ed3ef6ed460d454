"""Roles and grants: what isn't granted is denied."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.errors import RequestError
from modelwright.security.roles import ROLES, Action, Grant, allows, grant_of

NAMES = st.text(min_size=1, max_size=12)
ACTIONS = get_args(Action)


@given(st.sampled_from(sorted(ROLES)), st.sampled_from(ACTIONS), st.lists(NAMES, min_size=1), NAMES)
def test_only_what_role_and_models_both_cover_is_allowed(role, action, models, model):
    grant = grant_of(role, models)
    covered = "*" in models or model in models
    assert allows(grant, action, model) == (action in ROLES[role] and covered)
    assert allows(grant, action, None) == (action in ROLES[role] and "*" in models)


def test_each_role_allows_just_this():
    allowed = {
        role: [action for action in ACTIONS if allows(Grant(role, "*"), action, "a")]
        for role in ROLES
    }
    assert allowed == {
        "predictor": ["predict"],
        "explainer": ["predict", "explain"],
        "monitor": ["metrics"],
        "admin": ["predict", "explain", "metrics", "admin"],
    }


@pytest.mark.parametrize("models", [(), ("",), ("a", ""), ("a" * 201,)])
def test_a_grant_without_a_model_is_refused(models):
    with pytest.raises(RequestError):
        grant_of("predictor", models)


def test_an_unknown_role_names_the_nearest():
    with pytest.raises(RequestError, match="predictor"):
        grant_of("predicter", ["a"])


def test_a_name_is_no_pattern():
    assert not allows(Grant("predictor", ("a*",)), "predict", "ab")
    assert not allows(Grant("predictor", ("digits",)), "predict", "digits2")
    assert not allows(Grant("predictor", ("digits",)), "predict", "Digits")

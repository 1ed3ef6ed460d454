from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.errors import ModelFileError, RequestError
from modelwright.models import PixelSteps

figures = st.floats(0.01, 1.0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(figures, figures), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_pixels_are_scaled_then_normalised(figures, height, width):
    mean, std = zip(*figures, strict=True)
    pixels = torch.randint(0, 256, (2, height, width, len(mean)), dtype=torch.uint8)
    steps = PixelSteps(mean, std)
    expected = (pixels.double() / 255 - torch.tensor(mean).double()) / torch.tensor(std).double()
    for is_training in (True, False):
        found = steps.train(is_training)(pixels)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


def test_known_values():
    steps = PixelSteps([0.5], [0.25])
    found = steps(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2, 1))
    assert found.flatten().tolist() == pytest.approx([-2.0, 2.0], rel=1e-6)


def test_the_number_format_is_that_of_the_weights():
    assert PixelSteps([0.5], [0.25]).double()(torch.zeros(1, 2, 2, 1)).dtype == torch.float64


def test_gradient():
    pixels = torch.rand(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    steps = PixelSteps([0.1, 0.2], [0.3, 0.4]).double()
    assert torch.autograd.gradcheck(steps, (pixels,))
    assert torch.autograd.gradcheck(steps.eval(), (pixels,))


def test_declaration_goes_round():
    steps = PixelSteps([0.1, 0.7, 1 / 3], [0.3, 0.4, 0.5])
    again = PixelSteps.from_json(steps.to_json())
    assert again.to_json() == steps.to_json()
    assert torch.equal(again.mean, steps.mean)


@pytest.mark.parametrize("std", [[0.0], [-1.0], [float("nan")], [0.5, 0.5]])
def test_figures_that_do_not_fit_are_refused(std):
    with pytest.raises(RequestError):
        PixelSteps([0.5], std)


GOOD = PixelSteps([0.5], [0.25]).to_json()


@pytest.mark.parametrize(
    "steps",
    [
        [],
        GOOD[::-1],
        GOOD[:1],
        [*GOOD, GOOD[0]],
        [{**GOOD[0], "by": "255"}, GOOD[1]],
        [{**GOOD[0], "by": True}, GOOD[1]],
        [{**GOOD[0], "also": 1}, GOOD[1]],
        [GOOD[0], {**GOOD[1], "std": [0]}],
        [GOOD[0], {**GOOD[1], "mean": [None]}],
        [GOOD[0], {**GOOD[1], "mean": "a"}],
        [1, 2],
    ],
)
def test_altered_declarations_are_refused(steps):
    with pytest.raises(ModelFileError):
        PixelSteps.from_json(steps)

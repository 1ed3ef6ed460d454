"""Number formats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modelwright.training.precision import Precision, at_least_fp32, has_fast_bf16

CPU = Path("/proc/cpuinfo")
FLAGS = set(CPU.read_text().split()) if CPU.exists() else set()


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_products_are_of_the_format(name, dtype, device):
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    with Precision(name, device).context():
        product = matrix @ matrix
    assert product.dtype == dtype
    torch.testing.assert_close(product.float(), matrix @ matrix, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_losses_are_taken_in_no_less_than_fp32(dtype):
    expected = torch.float32 if dtype == torch.bfloat16 else dtype
    assert at_least_fp32(torch.zeros(2, dtype=dtype)).dtype == expected


@pytest.mark.skipif(
    not FLAGS & {"avx512_bf16", "amx_bf16"}, reason="no processor that says it multiplies bf16"
)
def test_a_processor_that_multiplies_bf16_is_known():
    assert has_fast_bf16("cpu")

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.models.exporting import exported, session, weights

from modelwright.models import decoder as module
from modelwright.models.decoder import (
    Decoder,
    DecoderStep,
    llama_config,
    llama_state,
    plain_causal_attention,
)
from modelwright.models.network import TextFrame
from modelwright.recipe.networks import DecoderModel
from modelwright.tasks.generation import left_padded

V = 23
STEPPED = 1e-5
"""A step sums over keys in another order than the whole text does."""
EXPORTED = 1e-4

KINDS = {"tied-grouped": (True, 2), "untied-plain": (False, 4), "tied-single": (True, 1)}


def fresh(**options):
    spec = DecoderModel(name="decoder", **options)
    return Decoder(spec, TextFrame(V, max_length=64, num_outputs=V))


def built(*, tied=True, kv_heads=2, dropout=0.0, seed=0, **sizes):
    torch.manual_seed(seed)
    options = {
        "width": 16,
        "layers": 2,
        "heads": 4,
        "hidden": 24,
    }
    options |= sizes
    options |= {"kv_heads": kv_heads, "tied": tied, "dropout": dropout}
    network = fresh(**options)
    network.rope_base = 500.0
    with torch.no_grad():
        # Fresh weights are so small that hardly anything would depend on them.
        for weight in network.parameters():
            weight.mul_(10 if weight.ndim == 2 else 1).add_(0.1 * torch.randn(weight.shape))
    return network.eval()


def drawn(count=3, time=9, seed=0):
    return torch.randint(4, V, (count, time), generator=torch.Generator().manual_seed(seed))


def no_padding(count):
    return torch.zeros(count, dtype=torch.int64)


@pytest.fixture(params=KINDS)
def network(request):
    tied, kv_heads = KINDS[request.param]
    return built(tied=tied, kv_heads=kv_heads)


# -- the whole text ------------------------------------------------------------------------------


def test_each_token_sees_only_those_before_it(network):
    tokens = drawn()
    changed = tokens.clone()
    changed[:, 5:] = 4
    with torch.no_grad():
        one, other = network(tokens), network(changed)
    assert one.shape == (3, 9, V)
    torch.testing.assert_close(one[:, :5], other[:, :5], rtol=0, atol=1e-6)
    assert (one[:, 5:] - other[:, 5:]).abs().max() > 0.1


def test_padding_and_other_samples_change_nothing(network):
    tokens = drawn()
    padded = F.pad(tokens, (0, 4))
    with torch.no_grad():
        whole = network(padded)[:, :9]
        single = torch.cat([network(row[None]) for row in tokens])
    torch.testing.assert_close(whole, single, rtol=0, atol=STEPPED)


def test_order_matters(network):
    with torch.no_grad():
        ahead = network(torch.tensor([[5, 6, 7]]))[0, -1]
        behind = network(torch.tensor([[6, 5, 7]]))[0, -1]
    assert (ahead - behind).abs().max() > 0.01


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_plain_attention_is_torchs(kv_heads):
    query, key, value = (
        torch.randn(2, 7, heads, 6, dtype=torch.float64) for heads in (4, kv_heads, kv_heads)
    )
    expected = F.scaled_dot_product_attention(
        *(item.transpose(1, 2) for item in (query, key, value)), is_causal=True, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(plain_causal_attention(query, key, value), expected)


def test_training_computes_what_evaluation_does(network, monkeypatch):
    with torch.no_grad():
        expected = network(drawn())
        torch.testing.assert_close(network.train()(drawn()), expected, rtol=0, atol=STEPPED)
        monkeypatch.setattr(module, "_SHORT", 3)
        torch.testing.assert_close(network(drawn()), expected, rtol=0, atol=STEPPED)


def test_every_parameter_gets_a_gradient_in_bf16(network):
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(drawn())
    logits.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.abs().sum() > 0, name


def test_bf16_is_near_fp32(network):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = network.train()(drawn())
    with torch.no_grad():
        exact = network(drawn())
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_a_fresh_network_knows_nothing():
    torch.manual_seed(0)
    network = fresh(width=64, layers=4, heads=4, kv_heads=2, hidden=128, tied=False)
    logits = network(drawn(8, 16))
    loss = F.cross_entropy(logits.flatten(0, 1), drawn(8, 16, seed=1).flatten())
    assert loss.item() == pytest.approx(np.log(V), abs=0.1)


def test_it_learns_to_repeat():
    torch.manual_seed(0)
    network = fresh(width=32, layers=2, heads=2, kv_heads=1, hidden=64)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for step in range(60):
        tokens = drawn(32, 5, seed=step).repeat(1, 2)
        logits = network(tokens[:, :-1])[:, 4:]
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 5:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5


def test_dropout_is_for_training_only():
    network = built(dropout=0.5)
    with torch.no_grad():
        assert torch.equal(network(drawn()), network(drawn()))
        network.train()
        assert not torch.equal(network(drawn()), network(drawn()))


# -- step by step --------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[1] * 9, [4, 1, 4], [9]], ids=str)
def test_stepping_is_reading_the_whole(network, parts):
    tokens = drawn()
    with torch.no_grad():
        whole = network(tokens)
        cache, place = network.empty_cache(3), 0
        for count in parts:
            logits, cache = network.step(tokens[:, place : place + count], no_padding(3), cache)
            place += count
            torch.testing.assert_close(logits, whole[:, place - 1], rtol=0, atol=STEPPED)
    assert cache.shape == (3, 2, 2, network.kv_heads, 9, 4)


def test_padding_on_the_left_changes_nothing(network):
    prompts = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
    tokens, padding = (torch.as_tensor(item) for item in left_padded(prompts))
    with torch.no_grad():
        logits, cache = network.step(tokens, padding, network.empty_cache(3))
        assert torch.isfinite(cache).all()
        again, _ = network.step(torch.tensor([[4], [5], [6]]), padding, cache)
        for row, prompt in enumerate(prompts):
            expected = network(torch.tensor([[*prompt, 4 + row]]))[0]
            torch.testing.assert_close(logits[row], expected[-2], rtol=0, atol=STEPPED)
            torch.testing.assert_close(again[row], expected[-1], rtol=0, atol=STEPPED)


# -- export --------------------------------------------------------------------------------------


def test_whole_text_exported():
    network = built(tied=False, kv_heads=4)
    count, time = torch.export.Dim("N", min=1), torch.export.Dim("T", min=1)
    graph = exported(
        network,
        (drawn(),),
        names=["tokens"],
        dynamic=({0: count, 1: time},),
        outputs=["logits"],
    )
    assert set(network.state_dict()) <= weights(graph)
    ready = session(graph)
    for sizes in ((1, 1), (2, 5), (4, 30)):
        tokens = drawn(*sizes, seed=1)
        found = ready.run(None, {"tokens": tokens.numpy()})[0]
        with torch.no_grad():
            torch.testing.assert_close(
                torch.from_numpy(found), network(tokens), rtol=0, atol=EXPORTED
            )


def test_step_exported():
    network = built(tied=True, kv_heads=2)
    step = DecoderStep(network)
    count, new, past = (
        torch.export.Dim("N", min=1),
        torch.export.Dim("S", min=1),
        torch.export.Dim("P", min=0),
    )
    cache = torch.randn(3, 2, 2, 2, 5, 4)
    graph = exported(
        step,
        (drawn(3, 2), no_padding(3), cache),
        names=["tokens", "padding", "cache"],
        dynamic=({0: count, 1: new}, {0: count}, {0: count, 4: past}),
        outputs=["logits", "new_cache"],
    )
    assert {f"decoder.{name}" for name in network.state_dict()} <= weights(graph)
    ready = session(graph)
    tokens, padding = left_padded([[5, 6, 7, 8], [9, 10]])
    held = network.empty_cache(2)
    for number in range(4):
        with torch.no_grad():
            logits, grown = step(torch.as_tensor(tokens), torch.as_tensor(padding), held)
        fed = {"tokens": tokens, "padding": padding, "cache": held.numpy()}
        found = ready.run(None, fed)
        for ours, theirs in zip((logits, grown), found, strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=0, atol=EXPORTED)
        tokens, held = np.full((2, 1 + number), 7 + number), grown


# -- Llama ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_it_is_a_llama(network, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig.from_dict(llama_config(network))
    llama = transformers.LlamaForCausalLM(config).eval()
    state = llama_state(network)
    missing, unknown = llama.load_state_dict(state, strict=False)
    assert not unknown
    assert missing == ([] if "lm_head.weight" in state else ["lm_head.weight"])
    llama.tie_weights()
    tokens = drawn(2, 40)
    with torch.no_grad():
        torch.testing.assert_close(llama(tokens).logits, network(tokens), rtol=0, atol=EXPORTED)


def test_llama_directory_is_read_by_transformers(network, tmp_path):
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps(llama_config(network)))
    state = {name: item.contiguous() for name, item in llama_state(network).items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    llama = transformers.LlamaForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    tokens = drawn(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(llama(tokens).logits, network(tokens), rtol=0, atol=EXPORTED)

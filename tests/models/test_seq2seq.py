from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.models.exporting import exported, session, weights
from torch import nn

from modelwright.models.network import TextFrame
from modelwright.models.padding import padding_bias
from modelwright.models.seq2seq import (
    Encode,
    RnnSeq2Seq,
    Seq2SeqStepper,
    Step,
    TransformerSeq2Seq,
)
from modelwright.models.transformer import sines
from modelwright.recipe.networks import Seq2SeqModel
from modelwright.tasks.beam_search import BeamSearchConfig, beam_search
from modelwright.tasks.generation import collect, generate
from modelwright.tasks.sampling import SamplingConfig

V = 23
FRAME = TextFrame(V, max_length=32, num_outputs=V)
BOS = 2
STEPPED = 1e-5
"""A step sums over keys in another order than the whole text does."""
EXPORTED = 1e-4


def transformer(**sizes):
    options = {"width": 16, "layers": 2, "heads": 4, "dropout": 0.0, **sizes}
    return TransformerSeq2Seq(Seq2SeqModel(name="seq2seq", **options), FRAME)


def rnn(cell, **sizes):
    options = {"width": 12, "layers": 2, "dropout": 0.0, **sizes}
    return RnnSeq2Seq(Seq2SeqModel(name="seq2seq", kind=cell, **options), FRAME)


KINDS = {
    "transformer": transformer,
    "lstm": lambda: rnn("lstm"),
    "gru": lambda: rnn("gru", layers=1),
}


@pytest.fixture(params=KINDS)
def network(request):
    torch.manual_seed(0)
    return KINDS[request.param]().eval()


def drawn(count=3, time=9, seed=0):
    return torch.randint(4, V, (count, time), generator=torch.Generator().manual_seed(seed))


def sources(lengths=(9, 4, 1), time=9):
    """Return sources `[N, T]` with padding, and their lengths."""
    length = torch.tensor(lengths)
    return drawn(len(lengths), time) * (torch.arange(time) < length[:, None]), length


def targets(count=3, time=6):
    return torch.cat((torch.full((count, 1), BOS), drawn(count, time - 1, seed=1)), 1)


# -- training ------------------------------------------------------------------------------------


def test_each_token_sees_only_those_before_it(network):
    target = targets()
    changed = target.clone()
    changed[:, 3:] = 4
    with torch.no_grad():
        one, other = network(*sources(), target), network(*sources(), changed)
    assert one.shape == (3, 6, V)
    torch.testing.assert_close(one[:, :3], other[:, :3], rtol=0, atol=1e-6)
    assert (one[:, 3:] - other[:, 3:]).abs().max() > 0.01


def test_padding_and_other_samples_change_nothing(network):
    source, length = sources()
    with torch.no_grad():
        whole = network(F.pad(source, (0, 5)), length, F.pad(targets(), (0, 3)))
        for row in range(3):
            single = network(
                source[row : row + 1, : length[row]],
                length[row : row + 1],
                targets()[row : row + 1],
            )
            torch.testing.assert_close(whole[row, :6], single[0], rtol=0, atol=STEPPED)


def test_what_stands_in_the_padding_changes_nothing(network):
    source, length = sources()
    noisy = source + 7 * (torch.arange(9) >= length[:, None])
    with torch.no_grad():
        torch.testing.assert_close(
            network(noisy, length, targets()), network(source, length, targets()), rtol=0, atol=0
        )


def test_the_source_and_its_order_matter(network):
    one, length = torch.tensor([[5, 6, 7]]), torch.tensor([3])
    with torch.no_grad():
        first = network(one, length, targets(1))
        other = network(one.flip(1), length, targets(1))
    assert (first - other).abs().max() > 0.01


def test_every_parameter_gets_a_gradient_in_bf16(network):
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(*sources(), targets())
    logits.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.abs().sum() > 0, name


def test_it_learns_to_turn_a_text_around(network):
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    length = torch.full((32,), 4)
    for step in range(150):
        source = drawn(32, 4, seed=step)
        target = torch.cat((torch.full((32, 1), BOS), source.flip(1)), 1)
        logits = network(source, length, target[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.0


# -- against torch -------------------------------------------------------------------------------


def test_transformer_is_torchs():
    """Compare with nn.Transformer, whose weights are the same under other names."""
    torch.manual_seed(0)
    ours = transformer().eval()
    layer = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False)
    theirs = nn.Transformer(
        16, 4, 2, 2, 64, 0.0, "gelu", encoder, batch_first=True, norm_first=True
    ).eval()
    source, length = sources()
    hidden = torch.arange(9) >= length[:, None]
    with torch.no_grad():
        for mine, other in zip(ours.encoder.layers, theirs.encoder.layers, strict=True):
            copy_layer(mine, other, ["attention_norm", "feed_norm"])
            other.self_attn.in_proj_weight.copy_(mine.attention.projection.weight)
            other.self_attn.in_proj_bias.copy_(mine.attention.projection.bias)
            other.self_attn.out_proj.load_state_dict(mine.attention.out.state_dict())
        for mine, other in zip(ours.decoder, theirs.decoder.layers, strict=True):
            copy_layer(mine, other, ["attention_norm", "cross_norm", "feed_norm"])
            copy_attention(mine.attention, other.self_attn)
            copy_attention(mine.cross, other.multihead_attn)
        vectors = theirs(
            ours.embedding(source) + sines(9, 16, source.device),
            ours.embedding(targets()) + sines(6, 16, source.device),
            tgt_mask=torch.full((6, 6), -torch.inf).triu(1),
            src_key_padding_mask=hidden,
            memory_key_padding_mask=hidden,
        )
        expected = vectors @ ours.embedding.weight.T
        found = ours(source, length, targets())
    torch.testing.assert_close(found, expected, rtol=0, atol=STEPPED)


def copy_layer(mine, other, norms):
    for number, name in enumerate(norms, 1):
        getattr(other, f"norm{number}").load_state_dict(getattr(mine, name).state_dict())
    other.linear1.load_state_dict(mine.feed[0].state_dict())
    other.linear2.load_state_dict(mine.feed[2].state_dict())


def copy_attention(mine, other):
    other.in_proj_weight.copy_(torch.cat((mine.query.weight, mine.key_value.weight)))
    other.in_proj_bias.copy_(torch.cat((mine.query.bias, mine.key_value.bias)))
    other.out_proj.load_state_dict(mine.out.state_dict())


def test_attention_of_the_rnn_by_hand():
    """Luong et al. 2015: the score `general` (eq. 8), its softmax (eq. 7), and eq. 5."""
    torch.manual_seed(0)
    network = rnn("gru").eval()
    source, length = sources()
    with torch.no_grad():
        memory, state = network.encode(source, length)
        read = network.embedding(targets())
        outputs, _ = network.decoder(read, torch.full((3,), 6), (state[:, 0].transpose(0, 1),))
        found = network(source, length, targets())
        for row in range(3):
            seen = memory[row, : length[row]]
            for place in range(6):
                h = outputs[row, place]
                context = (seen @ network.score.weight @ h).softmax(0) @ seen
                vector = network.attentional(torch.cat((context, h))).tanh()
                expected = network.embedding.weight @ vector
                torch.testing.assert_close(found[row, place], expected, rtol=0, atol=STEPPED)


def test_the_rnn_starts_from_the_mean_of_what_was_read():
    torch.manual_seed(0)
    network = rnn("lstm").eval()
    source, length = sources()
    with torch.no_grad():
        memory, state = network.encode(source, length)
        for row in range(3):
            expected = network.start(memory[row, : length[row]].mean(0)).tanh()
            torch.testing.assert_close(state[row].flatten(), expected, rtol=0, atol=STEPPED)


def test_bias_by_hand():
    low = -float("inf")
    assert padding_bias(torch.tensor([2, 1]), 2).tolist() == [[0, 0], [0, low]]


# -- step by step --------------------------------------------------------------------------------


def test_stepping_is_reading_the_whole(network):
    source, length = sources()
    with torch.no_grad():
        whole = network(source, length, targets())
        memory, state = network.encode(source, length)
        for place in range(6):
            logits, state = network.step(targets()[:, place, None], length, memory, state)
            torch.testing.assert_close(logits, whole[:, place], rtol=0, atol=STEPPED)


def test_beam_search_and_sampling_do_not_depend_on_the_batch(network):
    source, length = (item.numpy() for item in sources())
    stepper = Seq2SeqStepper(network)
    beam = BeamSearchConfig(num_beams=3, max_new_tokens=7, length_penalty=0.6)
    sampling = SamplingConfig(max_new_tokens=7, top_k=5, seed=3)

    def both(rows, width):
        inputs = {"source": source[rows, :width], "source_length": length[rows]}
        first = np.full((len(rows), 1), BOS)
        texts = generate(stepper, inputs, first, config=sampling, samples=rows)
        return (
            [item.ids for item in beam_search(stepper, inputs, first, config=beam)],
            [item.ids for item in collect(texts, len(rows))],
        )

    beams, drawn_ = both([0, 1, 2], 9)
    for row in range(3):
        assert both([row], length[row]) == ([beams[row]], [drawn_[row]])


def test_beam_search_scores_are_the_networks(network):
    source, length = sources()
    inputs = {"source": source.numpy(), "source_length": length.numpy()}
    found = beam_search(
        Seq2SeqStepper(network),
        inputs,
        np.full((3, 1), BOS),
        config=BeamSearchConfig(num_beams=4, max_new_tokens=5),
    )
    for row, item in enumerate(found):
        ids = [*item.ids, 3] if len(item.ids) < 5 else list(item.ids)
        with torch.no_grad():
            logits = network(
                source[row : row + 1], length[row : row + 1], torch.tensor([[BOS, *ids[:-1]]])
            )
        logits[..., :3] = -torch.inf
        shares = logits.log_softmax(-1)[0]
        expected = sum(shares[place, token].item() for place, token in enumerate(ids))
        assert item.log_probability == pytest.approx(expected, abs=1e-4)


# -- export --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["transformer", "lstm", pytest.param("gru", marks=pytest.mark.slow)]
)
def test_graphs_write_what_the_network_writes(kind):
    torch.manual_seed(0)
    network = (transformer(layers=1) if kind == "transformer" else KINDS[kind]()).eval()
    count, time = torch.export.Dim("N", min=1), torch.export.Dim("T", min=1)
    source, length = sources()
    encode, step = Encode(network), Step(network)
    reading = exported(
        encode,
        (source, length),
        names=["source", "source_length"],
        dynamic=({0: count, 1: time}, {0: count}),
        outputs=["memory", "state"],
    )
    memory, state = network.encode(source, length)
    arguments = (targets()[:, :1], length, memory, state)
    dynamic = ({0: count}, {0: count}, {0: count, 1: time}, {0: count})
    if kind == "transformer":
        _, state = network.step(*arguments)
        _, state = network.step(*arguments[:3], state)
        arguments = (*arguments[:3], state)
        past = torch.export.Dim("P", min=0)
        dynamic = (*dynamic[:2], {0: count, 4: time}, {0: count, 4: past})
    names = ["tokens", "source_length", "memory", "state"]
    writing = exported(step, arguments, names=names, dynamic=dynamic, outputs=["logits", "new"])
    held = weights(reading) | weights(writing)
    assert {f"network.{name}" for name in network.state_dict()} <= held
    read, write = session(reading), session(writing)
    for lengths, width in (((3,), 3), ((1,), 1), ((7, 12, 2, 5), 12)):
        source, length = sources(lengths, width)
        fed = {"source": source.numpy(), "source_length": length.numpy()}
        memory, state = read.run(None, fed)
        target = targets(len(lengths), 4)
        with torch.no_grad():
            whole = network(source, length, target)
        for place in range(4):
            fed = {"tokens": target[:, place, None].numpy(), "source_length": length.numpy()}
            logits, state = write.run(None, {**fed, "memory": memory, "state": state})
            torch.testing.assert_close(
                torch.from_numpy(logits), whole[:, place], rtol=0, atol=EXPORTED
            )

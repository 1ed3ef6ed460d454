from __future__ import annotations

import copy

import pytest
import torch

from modelwright.data.batches import Batch
from modelwright.models.bow import Bow
from modelwright.models.network import TextFrame
from modelwright.recipe.networks import BowModel
from modelwright.recipe.train import AdamwOptimizer, SgdOptimizer, TrainSpec
from modelwright.training.objectives.classification import CrossEntropy
from modelwright.training.optimizers import Optimizer
from modelwright.training.row_sparse import rows_of, tables
from modelwright.training.rules import WeightedMean
from tests.training.test_rules import step_of

PLAIN = SgdOptimizer(name="sgd", lr=0.5, momentum=0.0)
WITH_MEMORY = (
    SgdOptimizer(name="sgd", lr=0.5),
    AdamwOptimizer(name="adamw", lr=0.05),
)
ROUNDING = 1e-6
"""The gradients of a row are summed in another order, in fp32."""
LENGTH = torch.tensor([3, 3])
OF_ALL = torch.tensor([[1, 2, 3], [3, 4, 5]])
OF_SOME, OF_OTHERS = torch.tensor([[1, 2, 1], [2, 2, 1]]), torch.tensor([[4, 4, 5], [5, 4, 4]])


def bow(*, is_sparse=True):
    torch.manual_seed(0)
    spec = BowModel(name="bow", width=4, ngrams=1, buckets=16)
    network = Bow(spec, TextFrame(6, max_length=3, num_outputs=2))
    network.embedding.sparse = is_sparse
    with torch.no_grad():
        network.embedding.weight[1:].normal_()
    return network.train()


def step(network, optimizer, tokens, *, num_parts=1, clip_norm=None):
    """Take one step towards the first text's class 0 and the second's class 1."""
    batch = Batch((tokens, LENGTH), torch.tensor([0, 1]))
    if num_parts == 2:
        batches = [Batch((tokens[at], LENGTH[at]), batch.targets[at]) for at in ([0], [1])]
    else:
        batches = [batch]
    context = step_of(network, batch_size=2, num_parts=num_parts)
    WeightedMean(clip_norm).gradients(network, CrossEntropy(), batches, context)
    optimizer.step(1.0, 0.0)


def trained(spec, batches, *, is_sparse=True, weight_decay=0.1, **options):
    network = bow(is_sparse=is_sparse)
    settings = {"weight_decay": weight_decay, "l1": 0.01, "l2": 0.02}
    optimizer = Optimizer(network, TrainSpec(optimizer=spec, **settings))
    for tokens in batches:
        step(network, optimizer, tokens, **options)
    return network, optimizer


def assert_alike(first, second):
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name], rtol=0, atol=ROUNDING)


@pytest.fixture(params=[1, 2], ids=["whole", "in parts"])
def num_parts(request):
    return request.param


@pytest.mark.parametrize("clip_norm", [None, 0.01])
@pytest.mark.parametrize("spec", [PLAIN, *WITH_MEMORY], ids=["plain", "sgd", "adamw"])
def test_where_all_rows_are_in_the_batch_it_is_a_dense_step(spec, clip_norm, num_parts):
    sparse, _ = trained(spec, [OF_ALL] * 3, clip_norm=clip_norm, num_parts=num_parts)
    dense, _ = trained(spec, [OF_ALL] * 3, clip_norm=clip_norm, is_sparse=False)
    assert_alike(sparse, dense)
    assert not torch.equal(sparse.embedding.weight, bow().embedding.weight)


def test_without_momentum_and_decay_it_is_a_dense_step_whatever_rows_there_are(num_parts):
    batches = [OF_SOME, OF_OTHERS, OF_ALL, OF_SOME]
    networks = []
    for is_sparse in (True, False):
        network = bow(is_sparse=is_sparse)
        optimizer = Optimizer(network, TrainSpec(optimizer=PLAIN, weight_decay=0.0))
        for tokens in batches:
            step(network, optimizer, tokens, num_parts=num_parts)
        networks.append(network)
    assert_alike(*networks)


@pytest.mark.parametrize("spec", WITH_MEMORY, ids=lambda item: item.name)
def test_rows_that_are_in_no_batch_stand_still_and_so_does_what_is_kept_of_them(spec, num_parts):
    network, optimizer = trained(spec, [OF_SOME, OF_SOME], num_parts=num_parts)
    weight, fresh = network.embedding.weight.detach(), bow().embedding.weight.detach()
    assert torch.equal(weight[[0, 3, 4, 5]], fresh[[0, 3, 4, 5]])
    assert (weight[[1, 2]] != fresh[[1, 2]]).all()
    kept = {
        name: value.clone()
        for name, value in optimizer.state().items()
        if name.startswith("embedding.weight/") and value.ndim
    }
    assert kept
    before = weight.clone()
    step(network, optimizer, OF_OTHERS, num_parts=num_parts)
    assert torch.equal(weight[:4], before[:4])
    assert (weight[4:] != before[4:]).all()
    for name, value in kept.items():
        assert torch.equal(optimizer.state()[name][:4], value[:4])
        assert value[[1, 2]].any(1).all()


@pytest.mark.parametrize("spec", WITH_MEMORY, ids=lambda item: item.name)
def test_a_saved_state_goes_on_to_the_same_weights(spec):
    straight, _ = trained(spec, [OF_SOME, OF_ALL, OF_OTHERS])
    first, optimizer = trained(spec, [OF_SOME])
    resumed = copy.deepcopy(first)
    again = Optimizer(resumed, TrainSpec(optimizer=spec, weight_decay=0.1, l1=0.01, l2=0.02))
    again.load_state({name: value.clone() for name, value in optimizer.state().items()})
    for tokens in (OF_ALL, OF_OTHERS):
        step(resumed, again, tokens)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_a_batch_that_moves_nothing_is_taken():
    network, optimizer = trained(WITH_MEMORY[1], [OF_SOME])
    before = network.embedding.weight.detach().clone()
    WeightedMean().gradients(network, CrossEntropy(), [], step_of(network, num_parts=2))
    optimizer.step(1.0, 0.0)
    assert torch.equal(network.embedding.weight, before)


def test_the_rows_of_a_gradient_are_those_that_are_not_zero():
    dense = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [2.0, 3.0]])
    once = dense.to_sparse(1)
    twice = dense.to_sparse(1) + (3 * dense).to_sparse(1) - (3 * dense).to_sparse(1)
    for gradient in (dense, once, twice):
        rows, values = rows_of(gradient)
        assert rows.tolist() == [1, 3]
        assert torch.equal(values, dense[[1, 3]])
    assert tables(bow()) == {"embedding.weight"}
    assert tables(bow(is_sparse=False)) == frozenset()

"""A network as a graph of plain operations: what steps that change operations work on.

A module may be used twice, a sum or a nonlinearity may be a function: in the graph each use is a
node of its own, with weights of its own. Norms over the batch are folded into the convolution
before them, where there is one; the weights keep their names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental import _config as shapes
from torch.fx.graph import CodeGen

from modelwright.errors import RequestError
from modelwright.kinds import OutputKind
from modelwright.modelfile.export import dynamic_shapes
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.torch_runtime import to_torch
from modelwright.models.candidate import Candidate
from modelwright.models.detector import locations_of

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv2d.default, aten.conv1d.default)
LAYERS = (*CONVOLUTIONS, aten.linear.default)
"""Calls with an input, weights and a bias."""
_NO_EFFECT = (aten.dropout.default, aten.clone.default, aten.contiguous.default)
_CHECKS = (aten._assert_tensor_metadata.default, aten._assert_scalar.default)
_POOLS = (aten.max_pool2d.default, aten.max_pool1d.default)


def trace(candidate: Candidate) -> GraphModule:
    """Return a candidate's network in evaluation mode as a graph, norms over the batch folded.

    Raises:
        RequestError: torch can't trace it.
    """
    try:
        graph = exported(candidate)
    except RequestError as error:
        error.fix = (
            "Write `weights: int8` in place of `dtype`, for fully connected layers and embeddings"
        )
        raise
    _unshare(graph)
    _fold_norms(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def exported(candidate: Candidate) -> GraphModule:
    """Return a candidate's network in evaluation mode as a graph, layer by layer as it stands.

    Raises:
        RequestError: torch can't trace it.
    """
    network = copy.deepcopy(candidate.network).cpu().eval().requires_grad_(False)
    tensors = open_input(candidate.input.to_json(), candidate.assets).tensors
    try:
        # As the exporter to ONNX does, so that shapes aren't specialised where it doesn't either.
        with torch.no_grad(), shapes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            program = torch.export.export(
                network,
                synthetic_inputs(candidate),
                dynamic_shapes=dynamic_shapes(network, tensors),
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except (RuntimeError, torch.fx.proxy.TraceError) as error:
        raise RequestError(
            "this network's operations change with the length of a sample, so it has no graph for "
            "this step",
            where="compress",
            why=str(error).strip().splitlines()[0].partition("! For more")[0][:200],
            fix="Leave the step out",
        ) from error
    graph = _plain(program.module())
    if isinstance(steps := getattr(network, "steps", None), nn.Module):
        graph.steps = steps  # As the model file declares them.
    if candidate.output_kind == OutputKind.BOXES:
        graph.meta["locations"] = locations_of(network)  # What training takes the loss over.
    _clean(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def synthetic_inputs(candidate: Candidate) -> tuple[Tensor, ...]:
    """Return two samples as a network takes them."""
    reader = open_input(candidate.input.to_json(), candidate.assets)
    samples = reader.synthetic(2)
    return tuple(to_torch(samples[tensor.name]) for tensor in reader.tensors)


def is_call(node: object, *targets: Callable[..., Any]) -> bool:
    """Say whether a node is a call of one of these operations."""
    return isinstance(node, Node) and node.op == "call_function" and node.target in targets


def only_user(node: Node) -> Node | None:
    """Return the one node that takes this one's output; nothing where there are several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def argument(node: Node, place: int) -> Any:
    """Return an argument of a call by its place; `None` where it isn't given."""
    return node.args[place] if place < len(node.args) else None


def layer_of(node: Node) -> str:
    """Return the name of the module whose weights a call takes; empty where they aren't one's."""
    return owner_of(argument(node, 1))


def owner_of(node: object) -> str:
    """Return the name of the module whose weights a node reads; empty where it reads none."""
    is_read = isinstance(node, Node) and node.op == "get_attr"
    return str(node.target).rpartition(".")[0] if is_read else ""  # type: ignore[attr-defined]


def tensor_of(graph: GraphModule, node: object) -> Tensor | None:
    """Return the parameter or buffer that a node reads, if it does."""
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    found = getattr(graph.get_submodule(owner), name)
    return found.detach() if isinstance(found, Tensor) else None


def _plain(module: nn.Module) -> GraphModule:
    """Return an exported module as one that takes and returns tensors, and can be copied."""
    assert isinstance(module, GraphModule)
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    answers = tuple(output.args[0])
    returns_tensor = module.graph._codegen.pytree_info.out_spec.is_leaf()  # type: ignore[attr-defined]
    output.args = (answers[0] if returns_tensor else answers,)
    module.graph.set_codegen(CodeGen())
    return GraphModule(module, module.graph)


def _clean(graph: GraphModule) -> None:
    """Remove what checks inputs, and what does nothing in evaluation mode."""
    for node in list(graph.graph.nodes):
        if (node.op == "call_module" and node.target == "_guards_fn") or is_call(node, *_CHECKS):
            graph.graph.erase_node(node)
        elif is_call(node, *_NO_EFFECT):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    if hasattr(graph, "_guards_fn"):
        del graph._guards_fn


def _unshare(graph: GraphModule) -> None:
    """Give each further call with the same weights a copy of them."""
    seen: dict[str, int] = {}
    for node in list(graph.graph.nodes):
        layer = layer_of(node) if is_call(node, *LAYERS) else ""
        if not layer:
            continue
        seen[layer] = seen.get(layer, 0) + 1
        if seen[layer] > 1:
            name = f"{layer}_{seen[layer]}"
            graph.add_submodule(name, copy.deepcopy(graph.get_submodule(layer)))
            with graph.graph.inserting_before(node):
                for item in list(node.args):
                    if isinstance(item, Node) and str(item.target).startswith(f"{layer}."):
                        own = str(item.target).replace(layer, name, 1)
                        node.replace_input_with(item, graph.graph.get_attr(own))


def _fold_norms(graph: GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if is_call(node, aten.batch_norm.default) and not node.args[5]:
            _fold_norm(graph, node)


def _fold_norm(graph: GraphModule, norm: Node) -> None:
    """Fold a norm into the convolution before it; where pools stand between, its scales are > 0.

    The largest of some values, times what is above 0, is the largest of the products.
    """
    before, is_pooled = norm.args[0], False
    while isinstance(before, Node) and is_call(before, *_POOLS) and only_user(before) is not None:
        before, is_pooled = before.args[0], True
    if not isinstance(before, Node) or not is_call(before, *CONVOLUTIONS):
        return
    weight, layer = tensor_of(graph, before.args[1]), layer_of(before)
    gamma, beta, mean, variance = (tensor_of(graph, item) for item in norm.args[1:5])
    if only_user(before) is None or not layer or weight is None:
        return
    if mean is None or variance is None:
        return
    scale = torch.rsqrt(variance.double() + float(norm.args[7]))  # type: ignore[arg-type]
    scale = scale if gamma is None else scale * gamma
    if is_pooled and not bool((scale > 0).all()):
        return
    old = tensor_of(graph, argument(before, 2))
    shift = -mean.double() if old is None else old.double() - mean
    bias = shift * scale + (0 if beta is None else beta)
    folded = weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1))
    module = graph.get_submodule(layer)
    module.weight = nn.Parameter(folded.to(weight.dtype), requires_grad=False)
    module.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
    with graph.graph.inserting_before(before):
        read = graph.graph.get_attr(f"{layer}.bias")
    before.args = (*before.args[:2], read, *before.args[3:])
    norm.replace_all_uses_with(norm.args[0])  # type: ignore[arg-type]
    graph.graph.erase_node(norm)

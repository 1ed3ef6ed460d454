"""Networks of texts as plain ONNX graphs, and what runs them."""

from __future__ import annotations

import io
import warnings

import onnx
import onnxruntime
import torch


def exported(network, arguments, *, names, dynamic, outputs):
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own exporter
        torch.onnx.export(
            network.eval(),
            arguments,
            buffer,
            input_names=names,
            output_names=outputs,
            opset_version=20,
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes=dynamic,
        )
    return buffer.getvalue()


def session(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def weights(graph):
    return {item.name for item in onnx.load_from_string(graph).graph.initializer}

"""A network's features of images by onnxruntime, one image a thread: on a processor the quickest.

It is as if each thread served a model by itself, so that no thread waits for another one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelwright.modelfile.export import export
from modelwright.modelfile.outputs import OutputForm
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.step_graphs import NetworkGraph

if TYPE_CHECKING:
    from torch import nn

ImageFeatures = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def image_features(
    network: nn.Module, shape: tuple[int, int, int], *, threads: int
) -> ImageFeatures:
    """Return what computes a network's features `[N, D]` of pixels `[N, H, W, C]`.

    Args:
        network: a network of images; it isn't changed.
        shape: H, W and C.
        threads: how many images are looked at at the same time.

    Raises:
        ModelFileError: the exporter can't express the network.
    """
    from modelwright.models.linear import PixelFeatures

    source = NetworkGraph(
        name="features",
        module=PixelFeatures(network),
        within="network",
        inputs=(TensorSpec("pixels", "uint8", ("N", *shape)),),
        outputs=(OutputForm("features"),),
        samples={"pixels": np.zeros((2, *shape), np.uint8)},
    )
    exported = export(source)
    session = Session(exported.traced.graph, exported.weights, threads=1)

    def features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        def of_one(at: int) -> NDArray[np.float32]:
            found: NDArray[np.float32] = session.run({"pixels": pixels[at : at + 1]})[0]
            return found

        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate(list(pool.map(of_one, range(len(pixels)))))

    return features

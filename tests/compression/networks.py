"""Small untrained networks of each family, as candidates."""

from __future__ import annotations

from typing import Any

import torch

from modelwright import models
from modelwright.kinds import OutputKind
from modelwright.models.candidate import Candidate
from modelwright.recipe import networks
from modelwright.recipe.model import LinearModel
from modelwright.recipe.preparation import AudioSpec
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer

WORDS = ["the cat sat on the mat", "a dog ran to the lake", "an old king found a lamp"]
_TOKENIZER = {"kind": "bpe", "size": 300, "lowercase": False}
SMALL: dict[str, tuple[type, dict[str, Any]]] = {
    "mlp": (networks.MlpModel, {"hidden": (64,)}),
    "cnn": (networks.CnnModel, {"blocks": ({"filters": 8}, {"filters": 16}), "head": (32,)}),
    "resnet": (networks.ResnetModel, {"depth": 20, "width": 0.5}),
    "resnet 18": (networks.ResnetModel, {"depth": 18, "width": 0.125}),
    "speednet": (networks.SpeednetModel, {"widths": (8, 16, 16)}),
    "efficientnet-lite0": (networks.EfficientNetLite0Model, {}),
    "detector": (networks.DetectorModel, {"widths": (8, 16), "neck": 16}),
    "bow": (networks.BowModel, {"width": 32, "buckets": 256}),
    "text-cnn": (networks.TextCnnModel, {"width": 32}),
    "rnn": (networks.RnnModel, {"width": 32, "hidden": 16}),
    "transformer": (networks.TransformerModel, {"width": 64, "layers": 1, "heads": 2}),
    "decoder": (networks.DecoderModel, {"width": 64, "layers": 1, "heads": 2}),
    "seq2seq": (networks.Seq2SeqModel, {"width": 64, "layers": 1, "heads": 2}),
    "audio-cnn": (networks.AudioCnnModel, {"widths": (8, 16)}),
    "conv-ctc": (networks.ConvCtcModel, {"channels": 8, "width": 64, "layers": 1}),
    "rnn-ctc": (networks.RnnCtcModel, {"channels": 8, "hidden": 32, "layers": 1}),
    "linear": (LinearModel, {}),
}
"""A section `model` of each family by its name, small."""
TEXTS = ("bow", "text-cnn", "rnn", "transformer", "decoder", "seq2seq")
RECORDINGS = ("audio-cnn", "conv-ctc", "rnn-ctc")
_KINDS = {
    "detector": (OutputKind.BOXES, "object-detection"),
    "decoder": (OutputKind.CAUSAL_LM, "language-modeling"),
    "seq2seq": (OutputKind.SEQ2SEQ, "translation"),
    "conv-ctc": (OutputKind.CTC, "speech-recognition"),
    "rnn-ctc": (OutputKind.CTC, "speech-recognition"),
}


def small(name: str, *, seed: int = 0) -> Candidate:
    """Return a small untrained network of a family."""
    kind, settings = SMALL[name]
    spec = kind.model_validate({"name": name.partition(" ")[0], **settings})
    labels = ("a", "b", "c")
    task = _task(name)
    input: Any
    audio = AudioSpec(n_mels=16)
    if name in TEXTS:
        tokenizer = train_tokenizer(WORDS * 4, **_TOKENIZER)
        role = {"decoder": "prompt", "seq2seq": "source"}.get(name, "text")
        input = TextInput(tokenizer, 32) if role == "text" else TextInput(tokenizer, 32, role)
    elif name in RECORDINGS:
        input = AudioInput(8000, 1.0)
    else:
        input = ImageInput(32, 32, 3)
    output_kind, task = _KINDS.get(name, (OutputKind.SINGLE_LABEL, task))
    has_blank = output_kind == OutputKind.CTC
    is_text = output_kind in (OutputKind.CAUSAL_LM, OutputKind.SEQ2SEQ)
    outputs = input.tokenizer.size if is_text else len(labels) + has_blank
    torch.manual_seed(seed)
    is_image = isinstance(input, ImageInput)
    network = models.build_network(
        spec,
        input=input,
        num_outputs=outputs,
        mean=[0.5] * 3 if is_image else (),
        std=[0.25] * 3 if is_image else (),
        audio=audio,
    ).eval()
    _settle(network)
    return Candidate(
        network=network,
        task=task,
        input=input,
        labels=() if is_text else labels,
        architecture=models.architecture(spec, input=input, num_outputs=outputs, audio=audio),
        output_kind=output_kind,
        assets=input.assets() if name in TEXTS else {},
    )


def _task(name: str) -> str:
    if name in TEXTS:
        return "text-classification"
    return "audio-classification" if name in RECORDINGS else "image-classification"


@torch.no_grad()
def _settle(network: torch.nn.Module) -> None:
    """Give norms statistics that aren't 0 and 1, so that folding them matters."""
    draw = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((module.running_mean, -0.1), (module.running_var, 0.5)):
                if tensor is not None:
                    tensor.copy_(torch.rand(tensor.shape, generator=draw) + low)

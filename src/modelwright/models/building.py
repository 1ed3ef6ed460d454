"""From a recipe's section `model` to a network, and from a model file's architecture to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, get_args

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from modelwright.errors import MissingExtraError, ModelFileError, ModelwrightError, RequestError
from modelwright.kinds import InputKind
from modelwright.models import texts
from modelwright.models.cnn import cnn
from modelwright.models.detector import detector
from modelwright.models.mlp import mlp
from modelwright.models.modifications import Modification, modify, read_modifications
from modelwright.models.network import AudioFrame, Frame, ImageNetwork, TextFrame
from modelwright.models.pretrained import PretrainedModel, build_pretrained
from modelwright.models.resnet import resnet, resolved_stem
from modelwright.models.speednet import speednet
from modelwright.models.steps import PixelSteps
from modelwright.models.timm_networks import TimmNetwork, build_timm
from modelwright.models.weight_init import initialise
from modelwright.recipe.data import AudioNormalize, AudioSpec
from modelwright.recipe.model import (
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvCtcModel,
    DecoderModel,
    DetectorModel,
    MlpModel,
    ResnetModel,
    RnnCtcModel,
    RnnModel,
    Seq2SeqModel,
    SpeednetModel,
    TextCnnModel,
    TransformerModel,
)
from modelwright.recipe.spec import Spec
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.inputs import Input
from modelwright.transforms.text import TextInput

AnyFrame = Frame | TextFrame | AudioFrame
Scale = tuple[Sequence[float], Sequence[float]]
"""The mean and the deviation of each number."""

Architecture = (
    MlpModel
    | CnnModel
    | ResnetModel
    | SpeednetModel
    | BowModel
    | TextCnnModel
    | RnnModel
    | TransformerModel
    | AudioCnnModel
    | ConvCtcModel
    | RnnCtcModel
    | DecoderModel
    | Seq2SeqModel
    | DetectorModel
    | PretrainedModel
    | TimmNetwork
)

BUILDERS: dict[type[Spec], Callable[[Any, Any], nn.Module]] = {
    MlpModel: mlp,
    CnnModel: cnn,
    ResnetModel: resnet,
    SpeednetModel: speednet,
    BowModel: texts.bow,
    TextCnnModel: texts.text_cnn,
    RnnModel: texts.rnn,
    TransformerModel: texts.transformer,
    AudioCnnModel: texts.audio_cnn,
    ConvCtcModel: texts.conv_ctc,
    RnnCtcModel: texts.rnn_ctc,
    DecoderModel: texts.decoder,
    Seq2SeqModel: texts.seq2seq,
    DetectorModel: detector,
    PretrainedModel: build_pretrained,
    TimmNetwork: build_timm,
}
"""The families: each builds a network, or an image network's body, from its section."""

_NAMES: dict[str, type[Architecture]] = {
    "mlp": MlpModel,
    "cnn": CnnModel,
    "resnet": ResnetModel,
    "speednet": SpeednetModel,
    "bow": BowModel,
    "text-cnn": TextCnnModel,
    "rnn": RnnModel,
    "transformer": TransformerModel,
    "audio-cnn": AudioCnnModel,
    "conv-ctc": ConvCtcModel,
    "rnn-ctc": RnnCtcModel,
    "decoder": DecoderModel,
    "seq2seq": Seq2SeqModel,
    "detector": DetectorModel,
    "transformers": PretrainedModel,
    "timm": TimmNetwork,
}
TAKES: dict[type[Spec], InputKind] = {
    MlpModel: InputKind.IMAGE,
    CnnModel: InputKind.IMAGE,
    ResnetModel: InputKind.IMAGE,
    SpeednetModel: InputKind.IMAGE,
    BowModel: InputKind.TEXT,
    TextCnnModel: InputKind.TEXT,
    RnnModel: InputKind.TEXT,
    TransformerModel: InputKind.TEXT,
    AudioCnnModel: InputKind.AUDIO,
    ConvCtcModel: InputKind.AUDIO,
    RnnCtcModel: InputKind.AUDIO,
    DecoderModel: InputKind.TEXT,
    Seq2SeqModel: InputKind.TEXT,
    DetectorModel: InputKind.IMAGE,
    PretrainedModel: InputKind.TEXT,
    TimmNetwork: InputKind.IMAGE,
}
"""What the samples of each family are."""
_MOST = 1 << 24
"""No size in a model file may be larger."""
_MOST_SHRUNK = 16
"""How many times the weights of a modified network its blank may hold, where one must be built."""


def build_network(
    architecture: Architecture,
    *,
    input: Input,
    num_outputs: int,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    audio: AudioSpec | None = None,
    numbers: Scale | None = None,
) -> nn.Module:
    """Build the network that a recipe's section `model` asks for, with fresh weights.

    Args:
        architecture: the section.
        input: what the network will be served; some image families also train on other sizes.
        num_outputs: K.
        mean: for images, of each channel `[C]`, pixels in 0…1.
        std: for images, of each channel `[C]`.
        audio: for recordings, the features that it sees.
        numbers: where the outputs are numbers, the mean and deviation of each in training.

    Returns:
        A network that takes what the host steps give (pixels `[N, H, W, C]` in 0…255; or tokens or
        samples `[N, T]` and lengths `[N]`) and returns outputs `[N, K]`. Its weights are drawn from
        torch's generator.

    Raises:
        RecipeError: the images are too small for it.
        RequestError: the family takes another kind of sample.
    """
    frame = _frame(input, num_outputs, audio)
    if not isinstance(frame, KINDS[TAKES[type(architecture)]]):
        raise RequestError(
            f"`{architecture.name}` takes {TAKES[type(architecture)].plural}, and the samples are "
            "none",
            fix="Choose another `model`, or `auto`",
        )
    network: nn.Module
    if isinstance(input, ImageInput):
        network = build(
            architecture,
            channels=input.channels,
            height=input.height,
            width=input.width,
            num_outputs=num_outputs,
            mean=mean,
            std=std,
        )
    else:
        network = BUILDERS[type(architecture)](architecture, frame)
    if numbers is not None:
        scale_output(network, numbers)
    return network


def build(
    architecture: Architecture,
    *,
    channels: int,
    height: int,
    width: int,
    num_outputs: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> ImageNetwork:
    """Build an image network with fresh weights, as `build_network` does.

    Raises:
        RecipeError: the images are too small for it.
        RequestError: the figures of normalising aren't one a channel.
    """
    if len(mean) != channels:
        raise RequestError(
            f"images of {channels} channels can't be normalised by {len(mean)} figures"
        )
    frame = Frame(channels=channels, height=height, width=width, num_outputs=num_outputs)
    body = BUILDERS[type(architecture)](architecture, frame)
    initialise(body, architecture)
    return ImageNetwork(PixelSteps(mean, std), body)


def _frame(input: Input, num_outputs: int, audio: AudioSpec | None) -> AnyFrame:
    match input:
        case ImageInput():
            return Frame(input.channels, input.height, input.width, num_outputs)
        case TextInput():
            return TextFrame(input.tokenizer.size, input.max_length, num_outputs)
        case AudioInput():
            audio = audio or AudioSpec()
            return AudioFrame(input.sampling_rate, audio.n_mels, audio.normalize, num_outputs)


KINDS: dict[InputKind, type[AnyFrame]] = {
    InputKind.IMAGE: Frame,
    InputKind.TEXT: TextFrame,
    InputKind.AUDIO: AudioFrame,
}
"""The sizes of the ends of a network for each kind of sample."""


def architecture(
    spec: Architecture,
    *,
    input: Input,
    num_outputs: int,
    audio: AudioSpec | None = None,
    numbers: bool = False,
) -> dict[str, Any]:
    """Return what a model file keeps of a network: its section, resolved, and its ends.

    `rebuild` takes it back. What a stage changes in the network, `modifications.modified` adds.
    """
    found = spec.model_dump(mode="json")
    if isinstance(spec, ResnetModel):
        assert isinstance(input, ImageInput)
        found["stem"] = resolved_stem(spec, input.height, input.width)
    # Apart from the section, whose keys may have the same names.
    ends = asdict(_frame(input, num_outputs, audio))
    del ends["num_outputs"]
    # Written only where it is so: files of labels are as they always were.
    of_numbers = {"outputs": "numbers"} if numbers else {}
    return {**found, "input": ends, "num_outputs": num_outputs, **of_numbers}


def resized(architecture: Mapping[str, Any], input: ImageInput) -> dict[str, Any]:
    """Return an architecture for images of another size."""
    ends = {"channels": input.channels, "height": input.height, "width": input.width}
    return {**architecture, "input": ends}


def rebuild(
    architecture: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    steps: Sequence[Mapping[str, Any]] | None = None,
) -> nn.Module:
    """Build the network of a model file from its architecture and weights.

    No memory is taken before the weights are known to fit, so that a hostile architecture can't
    ask for more than its file holds.

    Args:
        architecture: what the function of that name returned.
        weights: the network's `state_dict()`; the network gets its own copy.
        steps: the graph steps that the file declares, which must be those in the weights.

    Raises:
        ModelFileError: anything is missing, unknown or doesn't fit.
    """
    section = dict(architecture)
    outputs = section.pop("outputs", "classes")
    if outputs not in ("classes", "numbers"):
        raise ModelFileError(f"the architecture's `outputs` are {outputs!r:.40}, and unknown")
    changes: tuple[Modification, ...] = ()
    if "modifications" in section:
        changes = read_modifications(section.pop("modifications"))
    spec, frame = _read(section)
    try:
        with torch.device("meta"):
            network = _blank(spec, frame, outputs)
            blank_size = _size(network.state_dict())
            modify(network, changes)
    except MissingExtraError:
        raise
    except ModelwrightError as error:
        raise ModelFileError("the architecture can't be built", why=error.what) from error
    wanted = {name: (item.shape, item.dtype) for name, item in network.state_dict().items()}
    _check_weights(wanted, weights)
    copies = {name: item.detach().clone() for name, item in weights.items()}
    is_foreign = isinstance(spec, PretrainedModel | TimmNetwork)
    if is_foreign:
        # It has tables beside its weights, which only building it in earnest computes; it is known
        # by now to take no more memory than its weights, or little more before it is modified.
        if blank_size > _MOST_SHRUNK * _size(weights):
            raise ModelFileError(
                "the architecture's modifications leave too little of the network",
                why=f"No less than 1/{_MOST_SHRUNK} of its weights may be left",
            )
        network = _blank(spec, frame, outputs)
        modify(network, changes)
    # Weights by two names stay one there.
    network.load_state_dict(copies, strict=True, assign=not is_foreign)
    if steps and not isinstance(network, ImageNetwork):
        raise ModelFileError("the file declares graph steps for a network that has none")
    if steps is not None and isinstance(network, ImageNetwork):
        declared = PixelSteps.from_json(steps)
        network.steps.scale = declared.scale
        if declared.to_json() != network.steps.to_json():
            raise ModelFileError("the declared graph steps aren't those among the weights")
    return network.eval()


def _blank(spec: Architecture, frame: AnyFrame, outputs: str) -> nn.Module:
    """Return a network whose weights and graph steps don't matter yet."""
    network = BUILDERS[type(spec)](spec, frame)
    if isinstance(frame, Frame):
        ends = [1.0] * frame.channels
        network = ImageNetwork(PixelSteps(ends, ends), network)
    if outputs == "numbers":
        ones = (1.0,) * frame.num_outputs
        scale_output(network, (ones, ones))
    return network


def _read(architecture: Mapping[str, Any]) -> tuple[Architecture, AnyFrame]:
    """Read an architecture, strictly."""
    section = {**architecture}
    ends, num_outputs = section.pop("input", None), section.pop("num_outputs", None)
    family = _NAMES.get(str(section.get("name")))
    if family is None:
        raise ModelFileError(
            f"the architecture `{section.get('name')!s:.40}` is unknown",
            fix="A newer version of modelwright may know it",
        )
    try:
        spec = family.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelFileError(f"the architecture's `{place}`: {first['msg']}") from error
    if set(spec.model_dump()) != set(section):
        raise ModelFileError("the architecture isn't written out in full")
    kind = KINDS[TAKES[type(spec)]]
    wanted = {item.name for item in fields(kind)} - {"num_outputs"}
    if not isinstance(ends, Mapping) or set(ends) != wanted:
        raise ModelFileError(f"the architecture's `input` isn't {', '.join(sorted(wanted))}")
    sizes = {**ends, "num_outputs": num_outputs}
    for key, value in sizes.items():
        if key == "normalize" and value in get_args(AudioNormalize):
            continue
        if type(value) is not int or not 0 < value <= _MOST:
            raise ModelFileError(f"the architecture's `{key}` is {value!r:.40}, not a size")
    return spec, kind(**sizes)


def _size(weights: Mapping[str, Tensor]) -> int:
    return sum(item.numel() for item in weights.values())


def _check_weights(
    wanted: Mapping[str, tuple[torch.Size, torch.dtype]], weights: Mapping[str, Tensor]
) -> None:
    for name in sorted(wanted.keys() ^ weights.keys()):
        state = "missing" if name in wanted else "unknown to the architecture"
        raise ModelFileError(f"the weights `{name:.80}` are {state}")
    for name, (shape, dtype) in wanted.items():
        item = weights[name]
        if item.shape != shape or item.dtype != dtype:
            raise ModelFileError(
                f"the weights `{name}` are {item.dtype} {list(item.shape)}, and the architecture "
                f"asks for {dtype} {list(shape)}"
            )


class ScaledLinear(nn.Linear):
    """A last layer whose outputs are in the targets' own unit: standardised ones, scaled back.

    So the network's numbers are small whatever the unit, and training begins at the mean.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layer: nn.Linear, scale: Scale) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None)
        self.weight, self.bias = layer.weight, layer.bias
        for name, values in zip(("mean", "std"), scale, strict=True):
            self.register_buffer(name, torch.tensor(list(values), device=layer.weight.device))

    def forward(self, input: Tensor) -> Tensor:
        """Return numbers `[N, D]`."""
        # In fp32 also under autocast: a large mean would leave bf16 no digits.
        return super().forward(input).to(self.mean.dtype) * self.std + self.mean


def scale_output(network: nn.Module, scale: Scale) -> None:
    """Let a network's last layer give numbers in their own unit.

    Raises:
        RequestError: the network has no layer `head`.
    """
    body = network.body if isinstance(network, ImageNetwork) else network
    body.head = ScaledLinear(_head(body), scale)


def _head(body: nn.Module | Tensor) -> nn.Linear:
    head = getattr(body, "head", None)
    if not isinstance(head, nn.Linear):
        raise RequestError("this network has no last layer that could be replaced")
    return head


def replace_output(network: nn.Module, num_outputs: int) -> None:
    """Put a new last layer into a network, for other labels; its weights are drawn anew.

    Raises:
        RequestError: the network has no layer `head`.
    """
    body = network.body if isinstance(network, ImageNetwork) else network
    head = _head(body)
    new = nn.Linear(
        head.in_features, num_outputs, bias=head.bias is not None, dtype=head.weight.dtype
    )
    body.head = new.to(head.weight.device)

"""From a recipe's section `model` to a network, and from a model file's architecture to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, get_args

import torch
from torch import Tensor, nn

from modelwright.errors import MissingExtraError, ModelFileError, ModelwrightError, RequestError
from modelwright.files import Json, JsonObject
from modelwright.models.audio_cnn import AudioCnn
from modelwright.models.bow import Bow
from modelwright.models.cnn import Cnn
from modelwright.models.coded import codebooks_of
from modelwright.models.ctc import ConvCtc, RnnCtc
from modelwright.models.decoder import Decoder
from modelwright.models.detector import Detector
from modelwright.models.efficientnet import EfficientNetLite0
from modelwright.models.linear import build_linear
from modelwright.models.mlp import Mlp
from modelwright.models.modifications import Modification, modify, read_modifications, read_section
from modelwright.models.network import AudioFrame, Frame, ImageNetwork, NgramFrame, TextFrame
from modelwright.models.pretrained import PretrainedModel, build_pretrained
from modelwright.models.resnet import Resnet, resolved_stem
from modelwright.models.rnn import RnnClassifier
from modelwright.models.seq2seq import build_seq2seq
from modelwright.models.speednet import Speednet
from modelwright.models.steps import PixelSteps
from modelwright.models.text_cnn import TextCnn
from modelwright.models.timm_networks import TimmNetwork, build_timm
from modelwright.models.transformer import TransformerClassifier
from modelwright.models.weight_init import initialise
from modelwright.recipe import networks
from modelwright.recipe.model import LinearModel, ModelSpec
from modelwright.recipe.preparation import AudioNormalize, AudioSpec
from modelwright.recipe.schema import tag_of
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.inputs import Input
from modelwright.transforms.ngrams import NgramInput
from modelwright.transforms.text import TextInput

FRAMES = (Frame, TextFrame, NgramFrame, AudioFrame)
AnyFrame = Frame | TextFrame | NgramFrame | AudioFrame
Scale = tuple[Sequence[float], Sequence[float]]
"""The mean and the deviation of each number."""

Architecture = ModelSpec | PretrainedModel | TimmNetwork
"""A section `model`, or what a model file keeps of a network of a library."""

BUILDERS: dict[type[Architecture], Callable[[Any, Any], nn.Module]] = {
    networks.MlpModel: Mlp,
    networks.CnnModel: Cnn,
    networks.ResnetModel: Resnet,
    networks.SpeednetModel: Speednet,
    networks.EfficientNetLite0Model: EfficientNetLite0,
    LinearModel: build_linear,
    networks.BowModel: Bow,
    networks.TextCnnModel: TextCnn,
    networks.RnnModel: RnnClassifier,
    networks.TransformerModel: TransformerClassifier,
    networks.AudioCnnModel: AudioCnn,
    networks.ConvCtcModel: ConvCtc,
    networks.RnnCtcModel: RnnCtc,
    networks.DecoderModel: Decoder,
    networks.Seq2SeqModel: build_seq2seq,
    networks.DetectorModel: Detector,
    PretrainedModel: build_pretrained,
    TimmNetwork: build_timm,
}
"""The families: each builds a network, or an image network's body, from its section and frame."""

_FAMILIES = {tag_of(section)[1]: section for section in BUILDERS}
"""The sections by the name that a model file has for them."""
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
    if frame.kind not in architecture.inputs:
        name, takes = tag_of(type(architecture))[1], [kind.plural for kind in architecture.inputs]
        raise RequestError(
            f"`{name}` takes {' or '.join(takes)}, and the samples are {frame.kind.plural}",
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
        case NgramInput():
            return NgramFrame(input.size, num_outputs)
        case AudioInput():
            audio = audio or AudioSpec()
            return AudioFrame(input.sampling_rate, audio.n_mels, audio.normalize, num_outputs)


def architecture(
    spec: Architecture,
    *,
    input: Input,
    num_outputs: int,
    audio: AudioSpec | None = None,
    numbers: bool = False,
) -> JsonObject:
    """Return what a model file keeps of a network: its section, resolved, and its ends.

    `rebuild` takes it back. What a stage changes in the network, `modifications.modified` adds.
    """
    section = spec.model_dump(mode="json")
    if isinstance(spec, networks.ResnetModel):
        assert isinstance(input, ImageInput)
        section["stem"] = resolved_stem(spec, input.height, input.width)
    # Apart from the section, whose keys may have the same names.
    ends = asdict(_frame(input, num_outputs, audio))
    del ends["num_outputs"]
    # Written only where it is so: files of labels are as they always were.
    of_numbers = {"outputs": "numbers"} if numbers else {}
    return {**section, "input": ends, "num_outputs": num_outputs, **of_numbers}


def resized(architecture: Mapping[str, Json], input: ImageInput) -> JsonObject:
    """Return an architecture for images of another size."""
    ends = {"channels": input.channels, "height": input.height, "width": input.width}
    return {**architecture, "input": ends}


def rebuild(
    architecture: Mapping[str, Json],
    weights: Mapping[str, Tensor],
    *,
    steps: Sequence[Mapping[str, Json]] | None = None,
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
    _check_weights(network.state_dict(), weights)
    copies = {name: item.detach().clone() for name, item in weights.items()}
    is_of_library = isinstance(spec, PretrainedModel | TimmNetwork)
    if is_of_library:
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
    network.load_state_dict(copies, strict=True, assign=not is_of_library)
    if not all(codebook.is_valid() for codebook in codebooks_of(network)):
        raise ModelFileError("the weights hold a code without an entry in its codebook")
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


def _read(architecture: Mapping[str, Json]) -> tuple[Architecture, AnyFrame]:
    """Read an architecture, strictly."""
    section = {**architecture}
    ends, num_outputs = section.pop("input", None), section.pop("num_outputs", None)
    family = _FAMILIES.get(str(section.get("name")))
    if family is None:
        raise ModelFileError(
            f"the architecture `{section.get('name')!s:.40}` is unknown",
            fix="A newer version of modelwright may know it",
        )
    spec = read_section(family, section, "the architecture")
    # Of a text, a linear model sees n-grams, and the others tokens.
    other = TextFrame if isinstance(spec, LinearModel) else NgramFrame
    fitting = {
        kind: _ends(kind) for kind in FRAMES if kind.kind in spec.inputs and kind is not other
    }
    given = set(ends) if isinstance(ends, Mapping) else set()
    kind = next((kind for kind, names in fitting.items() if names == given), None)
    if not isinstance(ends, Mapping) or kind is None:
        known = " or ".join(", ".join(sorted(names)) for names in fitting.values())
        raise ModelFileError(f"the architecture's `input` isn't {known}")
    sizes = {**ends, "num_outputs": num_outputs}
    for key, value in sizes.items():
        if key == "normalize" and value in get_args(AudioNormalize):
            continue
        if type(value) is not int or not 0 < value <= _MOST:
            raise ModelFileError(f"the architecture's `{key}` is {value!r:.40}, not a size")
    if kind is AudioFrame:  # Its filters are computed before the weights are compared.
        read_section(AudioSpec, {**AudioSpec().model_dump(), **ends}, "the architecture's `input`")
    return spec, kind(**sizes)


def _ends(kind: type[AnyFrame]) -> set[str]:
    """Return the names of what a frame says of a network's input."""
    return {item.name for item in fields(kind)} - {"num_outputs"}


def _size(weights: Mapping[str, Tensor]) -> int:
    return sum(item.numel() for item in weights.values())


def _check_weights(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name in sorted(expected.keys() ^ weights.keys()):
        state = "missing" if name in expected else "unknown to the architecture"
        raise ModelFileError(f"the weights `{name:.80}` are {state}")
    for name, own in expected.items():
        item = weights[name]
        if item.shape != own.shape or item.dtype != own.dtype:
            raise ModelFileError(
                f"the weights `{name}` are {item.dtype} {list(item.shape)}, and the architecture "
                f"asks for {own.dtype} {list(own.shape)}"
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
    body, head = output_layer(network)
    body.head = ScaledLinear(head, scale)


def output_layer(network: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Return the module that holds a network's last layer, and the layer.

    Raises:
        RequestError: it has no layer `head`.
    """
    body = network.body if isinstance(network, ImageNetwork) else network
    head = getattr(body, "head", None)
    if not isinstance(head, nn.Linear):
        raise RequestError("this network has no last layer that could be replaced")
    return body, head


def replace_output(network: nn.Module, num_outputs: int) -> None:
    """Put a new last layer into a network, for other labels; its weights are drawn anew.

    Raises:
        RequestError: the network has no layer `head`.
    """
    body, head = output_layer(network)
    new = nn.Linear(
        head.in_features, num_outputs, bias=head.bias is not None, dtype=head.weight.dtype
    )
    body.head = new.to(head.weight.device)

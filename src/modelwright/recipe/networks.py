"""The networks that are built here: which family, and how large."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from modelwright.kinds import VECTOR_OUTPUTS, OutputKind
from modelwright.recipe.spec import AUDIO, IMAGES, TEXTS, FromList, Rare, Spec

Width = Annotated[int, Field(ge=1, le=65536)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]
Activation = Literal["relu", "gelu", "silu", "tanh"]


class NetworkSpec(Spec):
    """What a section `model` says of its network beside the settings."""

    outputs: ClassVar[Collection[OutputKind]] = VECTOR_OUTPUTS
    settles: ClassVar[tuple[str, ...]] = ()
    """The settings and sections of a recipe that this network brings along, so that they have no
    effect beside it."""
    settles_why: ClassVar[str] = "brings its own"
    """Why they have no effect, for messages."""
    takes_any_size: ClassVar[bool] = True
    """Whether the network, once built, takes images of other sizes too."""
    smallest_side: ClassVar[int] = 1
    """The smallest side of images that the network takes, where that doesn't depend on settings."""

    @property
    def own_settles(self) -> tuple[str, ...]:
        """What `settles` says, with what depends on the network's settings."""
        return self.settles

    @property
    def published(self) -> str:
        """The published weights that the network starts from, by their name; else a blank."""
        return ""

    @property
    def is_pretrained(self) -> bool:
        """Whether the network starts from weights that have learnt before."""
        return bool(self.published)

    @property
    def usual_side(self) -> int | None:
        """The side of the images that its weights were trained on; `transforms.size: auto`."""
        return None


class MlpModel(NetworkSpec):
    """Fully connected layers on the flattened input."""

    inputs = IMAGES
    takes_any_size = False
    name: Literal["mlp"]
    hidden: Annotated[tuple[Width, ...], FromList] = (256, 128)
    """The width of each hidden layer."""
    activation: Activation = "relu"
    """The nonlinearity."""
    dropout: Dropout = 0.0
    """The share of hidden units dropped in training."""


class ConvBlock(Spec):
    """One block of convolutions, then a pooling."""

    filters: Width
    """Output channels of each convolution."""
    convolutions: Annotated[int, Field(ge=1, le=16)] = 1
    """Convolutions in the block."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 3
    """The kernel's side; the padding keeps the size."""
    pool: Annotated[int, Field(ge=1, le=16)] = 2
    """The pooling's side and stride; 1 leaves it out."""


class CnnModel(NetworkSpec):
    """A convolutional network: blocks of convolution and pooling, then fully connected layers."""

    inputs = IMAGES
    takes_any_size = False
    name: Literal["cnn"]
    blocks: Annotated[tuple[ConvBlock, ...], FromList, Field(min_length=1)] = (
        ConvBlock(filters=32),
        ConvBlock(filters=64),
        ConvBlock(filters=128),
    )
    """The convolution blocks, first to last."""
    pooling: Annotated[Literal["max", "average"], Rare()] = "max"
    """What each block ends with."""
    head: Annotated[tuple[Width, ...], FromList] = (128,)
    """The widths of the fully connected layers before the output."""
    batch_norm: bool = True
    """Normalise after each convolution."""
    activation: Activation = "relu"
    """The nonlinearity."""
    dropout: Dropout = 0.0
    """The share of units dropped before each fully connected layer, in training."""

    @model_validator(mode="after")
    def _check_pooling(self) -> Self:
        if self.pooling != "max" and all(block.pool == 1 for block in self.blocks):
            raise ValueError("`pooling` has no effect: no block has a `pool` above 1")
        return self


class ResnetModel(NetworkSpec):
    """A residual network (He et al. 2016): 18, or the CIFAR family 20, 32 and 56."""

    inputs = IMAGES
    batch_norm: ClassVar = True
    name: Literal["resnet"]
    depth: Literal[18, 20, 32, 56] = 20
    """Layers; 18 has widths 64…512, the CIFAR family 16, 32, 64."""
    width: Annotated[float, Field(gt=0, le=8)] = 1.0
    """A factor on every width."""
    stem: Annotated[Literal["auto", "small", "large"], Rare()] = "auto"
    """`small` starts with a 3×3 convolution, `large` with 7×7 and pooling; `auto` goes by the image
    size at depth 18, and is `small` at the others."""


class SpeednetModel(NetworkSpec):
    """A small network for quick, strong results on small images (after Jordan 2024).

    The source is `94 % on CIFAR-10 in 3.29 Seconds on a Single GPU`.
    """

    inputs = IMAGES
    batch_norm: ClassVar = True
    smallest_side = 9  # Below it, nothing is left after its 2×2 convolution and three poolings.
    name: Literal["speednet"]
    widths: Annotated[tuple[Width, Width, Width], FromList] = (64, 256, 256)
    """The widths of the three groups."""
    whiten: Annotated[bool, Rare()] = True
    """Fix the first convolution's filters to whiten training patches."""
    scale: Annotated[float, Field(gt=0, le=10), Rare()] = 1 / 9
    """A factor on the logits."""


class EfficientNetLite0Model(NetworkSpec):
    """A small network for photographs (EfficientNet-Lite0, after Tan and Le 2019), pretrained.

    It has 4.7 million parameters, without the last layer 3.4 million. Its published weights
    (Apache-2.0) were trained on ImageNet, for colour images of 224 × 224 pixels.
    """

    inputs = IMAGES
    batch_norm: ClassVar = True
    smallest_side = 32
    name: Literal["efficientnet-lite0"]
    pretrained: bool = True
    """Start from the published weights, which the extra `[pretrained]` installs; the last layer
    starts anew. Without, all weights are drawn."""
    dropout: Dropout = 0.2
    """The share dropped before the last layer, in training."""

    @property
    def published(self) -> str:
        return self.name if self.pretrained else ""

    @property
    def usual_side(self) -> int | None:
        return 224 if self.pretrained else None


class BowModel(NetworkSpec):
    """A bag of words and hashed n-grams, averaged (Joulin et al. 2017): quick, hard to beat."""

    inputs = TEXTS
    name: Literal["bow"]
    width: Width = 64
    """The width of a word's vector."""
    ngrams: Annotated[int, Field(ge=1, le=5)] = 2
    """The longest run of words that has a vector of its own."""
    buckets: Annotated[Annotated[int, Field(ge=16, le=1 << 24)] | Literal["auto"], Rare()] = "auto"
    """How many vectors the runs of words share, by hashing; `auto`: about two for each run that the
    training texts have, 262,144 at most. A training step moves the vectors of the words and runs in
    its batch; those of others stand still, with their momentum and decay."""
    dropout: Dropout = 0.0
    """The share of words and runs that is left out in training."""


class TextCnnModel(NetworkSpec):
    """Convolutions over word vectors, the largest answer of each filter (Kim 2014)."""

    inputs = TEXTS
    name: Literal["text-cnn"]
    width: Width = 128
    """The width of a word's vector."""
    filters: Width = 100
    """Filters of each length."""
    kernels: Annotated[tuple[Annotated[int, Field(ge=1, le=31)], ...], FromList] = (3, 4, 5)
    """The lengths of the filters, in words."""
    dropout: Dropout = 0.5
    """The share dropped in training."""


class RnnModel(NetworkSpec):
    """A recurrent network over word vectors: LSTM (Hochreiter and Schmidhuber 1997), GRU (2014)."""

    inputs = TEXTS
    name: Literal["rnn"]
    cell: Literal["lstm", "gru"] = "lstm"
    """The kind of cell."""
    width: Width = 128
    """The width of a word's vector."""
    hidden: Width = 128
    """The width of the state, in each direction."""
    layers: Annotated[int, Field(ge=1, le=8)] = 1
    """Layers, one above the other."""
    bidirectional: bool = True
    """Read from both ends."""
    pooling: Literal["last", "max", "mean", "attention"] = "max"
    """How the states become one vector."""
    dropout: Dropout = 0.3
    """The share dropped in training."""


class TransformerModel(NetworkSpec):
    """Self-attention over word vectors (Vaswani et al. 2017), each layer normalised first."""

    inputs = TEXTS
    name: Literal["transformer"]
    width: Width = 128
    """The width of the vectors."""
    layers: Annotated[int, Field(ge=1, le=48)] = 2
    """Layers."""
    heads: Annotated[int, Field(ge=1, le=128)] = 4
    """Heads of attention; they share the width."""
    dropout: Dropout = 0.1
    """The share dropped in training."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"`width` must be a multiple of `heads`, and {self.width} isn't")
        return self


class AudioCnnModel(NetworkSpec):
    """Convolutions over a log-mel spectrogram."""

    inputs = AUDIO
    name: Literal["audio-cnn"]
    widths: Annotated[tuple[Width, ...], FromList, Field(min_length=1, max_length=8)] = (
        32,
        64,
        128,
    )
    """The channels of each block of convolutions."""
    dropout: Dropout = 0.2
    """The share dropped before the last layer, in training."""


class ConvCtcModel(NetworkSpec):
    """Convolutions over a log-mel spectrogram, from audio to characters (Collobert et al. 2016)."""

    inputs, outputs = AUDIO, (OutputKind.CTC,)
    name: Literal["conv-ctc"]
    channels: Annotated[Width, Rare()] = 32
    """The channels of the two convolutions over bands and time, each of which halves the bands."""
    width: Width = 128
    """The width of a step."""
    layers: Annotated[int, Field(ge=1, le=64)] = 4
    """Convolutions over time alone, above the two."""
    kernel: Annotated[int, Field(ge=1, le=63)] = 7
    """The steps that each of them sees, an odd number."""
    stride: Annotated[Literal[1, 2, 4], Rare()] = 2
    """Frames of 10 ms a step; a step yields at most one character."""
    dropout: Dropout = 0.2
    """The share dropped in training."""

    @model_validator(mode="after")
    def _check_kernel(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"`kernel` must be odd, and {self.kernel} isn't")
        return self


class RnnCtcModel(NetworkSpec):
    """Recurrent layers over a log-mel spectrogram, to characters (Graves et al. 2006)."""

    inputs, outputs = AUDIO, (OutputKind.CTC,)
    name: Literal["rnn-ctc"]
    channels: Annotated[Width, Rare()] = 32
    """The channels of the two convolutions over bands and time, each of which halves the bands."""
    cell: Literal["lstm", "gru"] = "gru"
    """The kind of cell."""
    hidden: Width = 128
    """The width of the state, in each direction."""
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    """Layers, one above the other."""
    bidirectional: bool = True
    """Read from both ends."""
    stride: Annotated[Literal[1, 2, 4], Rare()] = 2
    """Frames of 10 ms a step; a step yields at most one character."""
    dropout: Dropout = 0.2
    """The share dropped in training."""


class DecoderModel(NetworkSpec):
    """A network that writes text from left to right, of the Llama kind.

    RMSNorm, rotary positions, SwiGLU, grouped-query attention (Touvron et al. 2023).
    """

    inputs, outputs = TEXTS, (OutputKind.CAUSAL_LM,)
    name: Literal["decoder"]
    width: Width = 256
    """The width of the vectors."""
    layers: Annotated[int, Field(ge=1, le=96)] = 4
    """Layers."""
    heads: Annotated[int, Field(ge=1, le=128)] = 4
    """Heads of attention that ask; each takes an even share of the width."""
    kv_heads: Annotated[Annotated[int, Field(ge=1, le=128)] | Literal["auto"], Rare()] = "auto"
    """Heads that are asked, a divisor of `heads`; `auto` takes as many."""
    hidden: Annotated[Width | Literal["auto"], Rare()] = "auto"
    """The width inside each layer; `auto` takes 8/3 of `width`."""
    tied: Annotated[bool, Rare()] = True
    """Use the vectors of the tokens as output weights too."""
    dropout: Dropout = 0.0
    """The share dropped in training."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"`width` must be a multiple of {2 * self.heads}, twice `heads`")
        if self.kv_heads != "auto" and self.heads % self.kv_heads:
            raise ValueError("`kv_heads` must divide `heads`")
        return self


class Seq2SeqModel(NetworkSpec):
    """An encoder that reads a text and a decoder that writes another."""

    inputs, outputs = TEXTS, (OutputKind.SEQ2SEQ,)
    name: Literal["seq2seq"]
    kind: Literal["transformer", "lstm", "gru"] = "transformer"
    """Attention alone (Vaswani et al. 2017), or recurrent layers with attention (Luong et al.
    2015)."""
    width: Width = 256
    """The width of the vectors."""
    layers: Annotated[int, Field(ge=1, le=48)] = 3
    """Layers, on each side."""
    heads: Annotated[int, Field(ge=1, le=128)] = 4
    """Heads of attention, of a `transformer`; they share the width."""
    dropout: Dropout = 0.3
    """The share dropped in training."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.kind != "transformer" and self.heads != type(self).model_fields["heads"].default:
            raise ValueError(f"`heads` has no effect: a `{self.kind}` has no heads")
        if self.kind == "transformer" and self.width % self.heads:
            raise ValueError(f"`width` must be a multiple of `heads`, and {self.width} isn't")
        return self


class DetectorModel(NetworkSpec):
    """A backbone and a feature pyramid that say where which things are (Tian et al. 2019)."""

    inputs, outputs = IMAGES, (OutputKind.BOXES,)
    batch_norm: ClassVar = True
    name: Literal["detector"]
    widths: Annotated[tuple[Width, ...], FromList, Field(min_length=2, max_length=8)] = (
        32,
        64,
        128,
        256,
    )
    """The channels of the stages of the backbone `residual`, at strides 4, 8, 16 …; all but the
    first see boxes."""
    depth: Annotated[int, Field(ge=1, le=16), Rare()] = 1
    """Residual blocks a stage, in the backbone `residual`."""
    neck: Annotated[Width, Rare()] = 64
    """The channels of the pyramid."""
    backbone: Literal["residual", "efficientnet-lite0"] = "residual"
    """What looks at the image: residual stages of its own, or the network of this name, whose maps
    at strides 8, 16 and 32 see boxes."""
    pretrained: bool = True
    """Start the backbone `efficientnet-lite0` from its published weights, which the extra
    `[pretrained]` installs. Without, all weights are drawn."""

    @property
    def published(self) -> str:
        return self.backbone if self.pretrained and self.backbone != "residual" else ""

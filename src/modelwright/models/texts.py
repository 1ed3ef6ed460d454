"""From a recipe's section to the networks for texts and recordings."""

from __future__ import annotations

from torch import nn

from modelwright.models.audio_cnn import AudioCnn
from modelwright.models.audio_frontend import FrontendConfig
from modelwright.models.bow import Bow
from modelwright.models.ctc import ConvCtc, ConvSubsampling, RnnCtc
from modelwright.models.decoder import Decoder
from modelwright.models.network import AudioFrame, TextFrame
from modelwright.models.rnn import RnnClassifier
from modelwright.models.seq2seq import RnnSeq2Seq, TransformerSeq2Seq
from modelwright.models.text_cnn import TextCnn
from modelwright.models.transformer import TransformerClassifier
from modelwright.recipe.model import (
    AudioCnnModel,
    BowModel,
    ConvCtcModel,
    DecoderModel,
    RnnCtcModel,
    RnnModel,
    Seq2SeqModel,
    TextCnnModel,
    TransformerModel,
)


def bow(spec: BowModel, frame: TextFrame) -> nn.Module:
    """Build a bag of words and n-grams."""
    return Bow(
        frame.vocabulary,
        frame.num_outputs,
        width=spec.width,
        ngrams=spec.ngrams,
        buckets=spec.buckets,
        dropout=spec.dropout,
    )


def text_cnn(spec: TextCnnModel, frame: TextFrame) -> nn.Module:
    """Build a convolutional network over words."""
    return TextCnn(
        frame.vocabulary,
        frame.num_outputs,
        width=spec.width,
        filters=spec.filters,
        kernels=spec.kernels,
        dropout=spec.dropout,
    )


def rnn(spec: RnnModel, frame: TextFrame) -> nn.Module:
    """Build a recurrent network over words."""
    return RnnClassifier(
        frame.vocabulary,
        frame.num_outputs,
        width=spec.width,
        hidden=spec.hidden,
        layers=spec.layers,
        cell=spec.cell,
        bidirectional=spec.bidirectional,
        pooling=spec.pooling,
        dropout=spec.dropout,
    )


def transformer(spec: TransformerModel, frame: TextFrame) -> nn.Module:
    """Build a network of self-attention."""
    return TransformerClassifier(
        frame.vocabulary,
        frame.num_outputs,
        width=spec.width,
        layers=spec.layers,
        heads=spec.heads,
        max_length=frame.max_length,
        dropout=spec.dropout,
    )


def decoder(spec: DecoderModel, frame: TextFrame) -> nn.Module:
    """Build a network that writes from left to right."""
    # A multiple of 16, as processors like it.
    usual = -(-8 * spec.width // 48) * 16
    return Decoder(
        frame.vocabulary,
        width=spec.width,
        layers=spec.layers,
        heads=spec.heads,
        kv_heads=spec.heads if spec.kv_heads == "auto" else spec.kv_heads,
        hidden=usual if spec.hidden == "auto" else spec.hidden,
        max_length=frame.max_length,
        tied=spec.tied,
        dropout=spec.dropout,
    )


def seq2seq(spec: Seq2SeqModel, frame: TextFrame) -> nn.Module:
    """Build a network that writes a text from another; both in one vocabulary."""
    if spec.kind == "transformer":
        return TransformerSeq2Seq(
            frame.vocabulary,
            width=spec.width,
            layers=spec.layers,
            heads=spec.heads,
            dropout=spec.dropout,
        )
    return RnnSeq2Seq(
        frame.vocabulary,
        width=spec.width,
        hidden=spec.width,
        layers=spec.layers,
        cell=spec.kind,
        dropout=spec.dropout,
    )


def audio_cnn(spec: AudioCnnModel, frame: AudioFrame) -> nn.Module:
    """Build a convolutional network over a spectrogram."""
    return AudioCnn(frame.num_outputs, _features(frame), widths=spec.widths, dropout=spec.dropout)


def _features(frame: AudioFrame) -> FrontendConfig:
    return FrontendConfig(frame.sampling_rate, frame.n_mels, frame.normalize)


def _subsampling(spec: ConvCtcModel | RnnCtcModel, frame: AudioFrame) -> ConvSubsampling:
    return ConvSubsampling(_features(frame), channels=spec.channels, stride=spec.stride)


def conv_ctc(spec: ConvCtcModel, frame: AudioFrame) -> nn.Module:
    """Build a network of convolutions that predicts characters."""
    return ConvCtc(
        frame.num_outputs,
        _subsampling(spec, frame),
        width=spec.width,
        layers=spec.layers,
        kernel=spec.kernel,
        dropout=spec.dropout,
    )


def rnn_ctc(spec: RnnCtcModel, frame: AudioFrame) -> nn.Module:
    """Build a recurrent network that predicts characters."""
    return RnnCtc(
        frame.num_outputs,
        _subsampling(spec, frame),
        cell=spec.cell,
        hidden=spec.hidden,
        layers=spec.layers,
        bidirectional=spec.bidirectional,
        dropout=spec.dropout,
    )

"""Modules that a user composes: pooling heads, fusion of streams, encoders, image networks."""

from milforge.nn.attention_heads import AttentionHeads, MultiHeadAttentionPool
from milforge.nn.attention_pool import AttentionPool
from milforge.nn.attention_variance_pool import AttentionVariancePool
from milforge.nn.encoders import FlattenEncoder, IdentityEncoder, LeNetEncoder, MLPEncoder
from milforge.nn.image_networks import AttentionCNN, PatchCNN
from milforge.nn.pooling import MaxPool, MeanPool
from milforge.nn.sm import Sm
from milforge.nn.sm_attention_pool import SmAttentionPool
from milforge.nn.standardise import Standardise
from milforge.nn.streams.concat_streams import ConcatStreams
from milforge.nn.streams.each_stream import EachStream
from milforge.nn.streams.stream_fusion import StreamFusion

__all__ = [
    "AttentionCNN",
    "AttentionHeads",
    "AttentionPool",
    "AttentionVariancePool",
    "ConcatStreams",
    "EachStream",
    "FlattenEncoder",
    "IdentityEncoder",
    "LeNetEncoder",
    "MLPEncoder",
    "MaxPool",
    "MeanPool",
    "MultiHeadAttentionPool",
    "PatchCNN",
    "Sm",
    "SmAttentionPool",
    "Standardise",
    "StreamFusion",
]

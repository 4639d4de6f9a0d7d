"""Modules that a user composes: pooling heads, fusion of streams and instance encoders."""

from milforge.nn.attention_pool import AttentionPool
from milforge.nn.encoders import IdentityEncoder, LeNetEncoder, MLPEncoder
from milforge.nn.pooling import MaxPool, MeanPool
from milforge.nn.sm import Sm
from milforge.nn.sm_attention_pool import SmAttentionPool
from milforge.nn.stream_fusion import StreamFusion

__all__ = [
    "AttentionPool",
    "IdentityEncoder",
    "LeNetEncoder",
    "MLPEncoder",
    "MaxPool",
    "MeanPool",
    "Sm",
    "SmAttentionPool",
    "StreamFusion",
]

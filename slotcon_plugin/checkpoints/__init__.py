"""Weights leave and come in: names by table, files read safely, nothing passed over in silence."""

from .encoder import Encoder as Encoder
from .encoder import read_encoder as read_encoder
from .fill import fill as fill

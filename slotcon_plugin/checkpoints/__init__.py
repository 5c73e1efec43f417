"""Convert and load encoder weights, by tables of names and without running code in files."""

from .encoder import Encoder as Encoder
from .encoder import read_encoder as read_encoder
from .fill import fill as fill

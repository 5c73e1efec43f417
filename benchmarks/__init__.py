"""Measuring: time, memory and traffic of two ways to compute the same, side by side."""

import sys
from pathlib import Path

# The small models and images of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

"""Measuring: time, memory and traffic of two ways to compute the same, side by side."""

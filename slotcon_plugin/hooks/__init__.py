"""Hooks decide when; the model knows what."""

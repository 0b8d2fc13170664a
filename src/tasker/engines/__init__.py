"""Implementations of the Engine protocol, one folder each."""

"""JSON text from outside, read and written strictly; every fault with its place."""

"""The stores of the distributed engine, one module each."""

"""The stores of the embedded engine, one module each."""

"""Forms from JSON Schemas: which controls a schema has, how a value fills them, and how a posted form becomes JSON."""

"""The REST API: one table of operations, from which come the routes, the OpenAPI document and the docs."""

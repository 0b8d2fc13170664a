"""The REST API: resources whose operations make the routes, the OpenAPI document and the docs (see operation.py)."""

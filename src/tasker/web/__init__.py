"""The dashboard: pages for people under /ui, made by the server, over the same use cases as the API."""

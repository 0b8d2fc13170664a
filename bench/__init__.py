"""The benchmark of Tasker: `python -m bench` measures it beside its peers in one run. Not part of the package."""

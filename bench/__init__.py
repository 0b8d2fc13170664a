"""The benchmark of Tasker: `python -m bench` measures it and its peers in one run. Not part of the package."""

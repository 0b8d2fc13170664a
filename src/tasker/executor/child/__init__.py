"""What runs in a child process. Its imports are kept few: they are the time that a fresh child takes to start."""

"""The worker: claims tasks, has them run, and stores how they ended."""

"""`tasker dev`: a supervisor that holds the port, and a process after the other that serves on it."""

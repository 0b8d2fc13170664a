"""`tasker doctor`: what is wrong with this machine's Tasker, and what to do about it."""

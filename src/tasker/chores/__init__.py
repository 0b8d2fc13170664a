"""Background chores: what has to be done besides requests and attempts, again and again."""

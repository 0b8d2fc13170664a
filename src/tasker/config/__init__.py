"""Settings: the kinds of their values, the table of them, and loading them from flags, the environment and `.env`."""

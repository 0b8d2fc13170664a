"""Settings, and where they come from: flags, the environment, `.env`."""

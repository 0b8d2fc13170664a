"""Code that both engines share. Pure: no store."""

"""What runs in the background, again and again."""

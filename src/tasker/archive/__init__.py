"""Archives: everything stored, in a file, checked item by item on its way in."""

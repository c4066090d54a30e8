"""Function classes and their rates."""

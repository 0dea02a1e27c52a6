"""What the rest of the library stands on: checks of arguments, atomic writes."""

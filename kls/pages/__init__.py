"""Pages that stand alone: what is found as one HTML file, with the data behind it beside it."""

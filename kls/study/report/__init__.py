"""What a study shows: its tables, its figures and its report."""

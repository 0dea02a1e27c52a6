"""What all studies share: trials, plans, training, the store of results, tables and figures."""

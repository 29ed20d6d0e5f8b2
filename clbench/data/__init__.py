"""Data sets, where their pixels live, and batches of them."""

"""What people write, read within bounds: words, names, YAML, plain values."""

"""What people write, read within bounds: names, YAML, plain values, lines of text."""

"""What runs leave behind, made from their records alone."""

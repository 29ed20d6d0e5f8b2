"""A finished run for others: what is sent to the Hugging Face hub, its card, and the sending."""

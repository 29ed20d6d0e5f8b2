"""Accuracies, retention, and where they are written."""

"""The door for methods, streams, data sets, metrics and loggers of one's own."""

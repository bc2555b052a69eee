"""What operators and callers can see: statistics, logs and traces."""

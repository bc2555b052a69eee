"""What operators and callers can see: statistics and logs."""

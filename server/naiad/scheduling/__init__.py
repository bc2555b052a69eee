"""From single requests to batches: the queue, the decision, its execution, and the scheduler around them."""

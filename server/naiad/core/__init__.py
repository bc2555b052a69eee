"""Types, errors and the clock: the words every other layer speaks. Pure; imports nothing of ours."""

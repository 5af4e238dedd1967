"""Static int8 for the CPU: a pair's score can't depend on what it is batched with."""

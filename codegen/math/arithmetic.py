"""Float and integer arithmetic that takes more than a few instructions: remainders, neighbours, scaling, gcd, integer powers."""

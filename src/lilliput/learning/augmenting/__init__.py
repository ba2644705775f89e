"""What may be done to examples: a file per form of input, drawn by seed, named in a policy."""

"""The verbs, one function per file, in the order in which data flows."""

"""A user's model: its graph, its sites, what flows through them, what they become."""

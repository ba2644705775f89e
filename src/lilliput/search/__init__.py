"""Vary plans: the best uniform one, swaps on measured divergence, fronts of several budgets."""

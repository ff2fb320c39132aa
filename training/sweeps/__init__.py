"""Sweeps, as pure functions: what is searched, what is tried next, and who goes on. No database here.

written.py     a space as people write it, a setting a line
space.py       what may be chosen: fields with their ranges, and when a field counts at all
plan.py        the strategy and the budget, checked
rungs.py       who has earned more epochs: asynchronous successive halving, and hyperband's brackets
suggesting.py  what to try next, asked of Optuna in a process of its own
optuna_answers.py   that process
"""

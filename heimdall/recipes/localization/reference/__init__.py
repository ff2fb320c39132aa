"""The best that can be done with the generator's own reports: Bayes' rule, by numerical integration.

The Cramer-Rao bound of direct arrivals does not apply where some are late. This does: it knows how often links are
obstructed, how late an arrival then is, and what the strengths say of it, and asks nothing to be unbiased.

strengths.py    what a strength says of a link: obstructed or not, tabled from the generator's own functions
integration.py  sums over position and clock, on a grid that refines itself
reference.py    both together: the posterior of a sample, its mean, and how much of it is denser than the truth
"""

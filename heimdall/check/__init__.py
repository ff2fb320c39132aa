"""Is a program resumed exactly? It is trained straight and stopped, in new processes, and all is compared.

rehearsal.py   a trainer led through one attempt after the other, each stopped where it is said
compare.py     the first difference between two states, and between two series of steps
checking.py    the check: straight twice, stopped, and with a restore that was broken on purpose
report.py      its result for people, and as JSON
__main__.py    `python -m heimdall.check -- python train.py`
"""

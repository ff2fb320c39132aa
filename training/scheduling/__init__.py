"""Who must make room for whom, and who grows: it decides, and calls the verbs of the services, which write.

preemption.py    jobs make room for one that goes first: for one slot, or for all that a gang takes
elastic.py       elastic jobs get more slots where they are free, and give some back where others wait
"""

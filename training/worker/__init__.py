"""What a host runs beside its attempts.

guard.py           the main process: starts and replaces the cluster, drains the host
cluster.py         the cluster of django-q2, as the guard sees it
heartbeat.py       the thread that beats for the node
watchdog.py        finds a cluster that takes no messages
courier.py         the thread that sends notifications
tasks.py           what queue messages name
housekeeping.py    what is looked after every few seconds
reaping.py         attempts whose supervisor is gone
cleanup.py         what nobody needs any more
"""

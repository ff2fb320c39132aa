"""The sockets: what happens to jobs, shown while it happens. docs/live.md is the protocol.

routing.py          which address leads to which socket, and who may open one at all
consumers.py        the sockets: one job, or a list
feeds.py            what a socket is sent: rows beyond its place, read once for all that stand there
subscriptions.py    which socket follows which jobs
tailer.py           the thread that notices what anybody committed
debounce.py         many changes, few messages
broadcast.py        one message to all sockets of a job
backpressure.py     a client that does not read fills no memory
logins.py           whose socket it is, looked up again and again
login_changes.py    tells all web processes that somebody's rights may have changed
"""

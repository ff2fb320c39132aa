"""The pages: request in, verb or read, HTML out. They work without JavaScript; live.js makes them live.

page.py         what every page stands on
jobs.py         the list                        job.py          one job
story.py        what it did, in sentences       logs.py         what it printed
compare.py      jobs side by side               copies.py       its settings to take away
monitoring.py   /readyz and /metrics
nodes.py        the hosts                       queue.py        who goes next
many.py         a verb for many jobs at once    saved.py        lists with a name
downloads.py    values as CSV and JSON          sparks.py       the small curves of the list
activity.py     who did what, in all jobs       account.py      one's own password and token
submit.py       making a job, and editing one   verbs.py        pause, resume, ... with their confirmations
forms.py        what people fill in             confirmations.py  what is asked before a verb
checkpoints.py  downloads, bundles, pins        datasets.py     datasets
notifications.py  who is told of what, and what became of it
"""

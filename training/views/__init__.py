"""The pages: request in, verb or read, HTML out. They work without JavaScript; live.js makes them live.

page.py         what every page stands on
jobs.py         the list                        job.py          one job
timeline.py     what a job did, in sentences    logs.py         what it printed
compare.py      jobs side by side               copy_as.py      its settings as JSON, curl, or a command
monitoring.py   /readyz and /metrics
nodes.py        the hosts                       queue.py        who goes next
bulk.py         a verb for many jobs at once    saved_views.py  lists with a name
downloads.py    values as CSV and JSON          sparklines.py   the small curves of the list
activity.py     who did what, in all jobs       account.py      one's own password and token
programs.py     jobs that run a program, and their code
submit.py       making a job, and editing one   verbs.py        pause, resume, ... with their confirmations
forms.py        forks, extensions, edits        subscription_forms.py  who is notified of what
certificates.py  certificates, badges, replays that are asked for
checkpoints.py  downloads, bundles, pins        datasets.py     datasets
notifications.py  subscriptions and deliveries
sweeps.py       searches over settings          layouts.py      how people arrange their pages
locating.py     where transmitters are, by reports of receivers
"""

"""What pages, API, admin and commands show alike, so that none of these doors imports another.

errors.py            the shape of an error for programs
answers.py           what became of a verb, in one word and one sentence
confirmations.py     what is asked before a verb
throttles.py         how often one may ask
params.py            query parameters                 filters.py        which jobs a list shows
form_fields.py       fields of forms                  job_forms.py      the form of a new job
config_groups.py     settings as people read them     checkpoint_files.py  sending a checkpoint's file
program_forms.py     the form of a program          program_facts.py  what people read of one
code_files.py        sending a program's code   badges.py            what is known of a job, as a picture
job_buttons.py       a job's buttons and links   sweep_forms.py       the form of a sweep
tracebacks.py        errors in parts           log_colors.py        a log as a terminal shows it
exports.py           all jobs of a list as a file
report_rows.py       reports of receivers, typed      streams.py           text that is sent as it is made
located_files.py     answers to them as files
"""

"""Other people's training code under Heimdall: a loop of their own, their Trainer, or any command.

program.py   what a program is and how it is started; every door checks it (no torch)
attach.py    `heimdall.attach`, the one call of a script
loop.py      the job that a script is: epochs, batches, values, log
script.py    what drives a trainer by a script
command.py   what drives a trainer by any other program
started_command.py, warden.py   the process that starts a command and lets nothing of it live on, as the trainer has
             it and by itself (the standard library alone)
own_checkpoints.py, checkpoint_folder.py, log_rows.py   what a command saves by itself, and what its log says
sources.py   which way of reading fits a loader
loaders.py   loaders read so that they have a position
reporting.py a script that is reported to a server where nobody supervises it
parts.py     what of a script must survive beside what it names itself
hugging_face.py, lightning.py, accelerate.py   the adapters; what two of them keep is in ..._state.py
hooks.py     the switch that attaches a Trainer without a line in the script
steps.py     when a step was made, and what was logged of it

(The package is not called `attach`: that is the function, which `import heimdall` gives.)
"""

"""Other people's training code under Heimdall: a loop of their own, their Trainer, or any command.

program.py   what a program is and how it is started; every door checks it (no torch)
attach.py    `heimdall.attach`, the one call of a script
loop.py      the job that a script is: epochs, batches, values, log
loaders.py   a script's loader, read so that it has a position
parts.py     what of a script must survive beside what it names itself
steps.py     when a step was made, and what was logged of it

(The package is not called `attach`: that is the function, which `import heimdall` gives.)
"""

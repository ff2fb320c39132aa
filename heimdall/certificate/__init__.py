"""The certificate of a job: what its training went through, and which parts of it were trained again and compared.

chain.py       the links between a job's states, and what a look at them tells
document.py    the statement, and the checks that it holds together
envelope.py    the signed envelope around it, in the one form that it may have
keys.py        ed25519: the installation's key, and public halves as people pass them on
weights.py     whether a file on this machine is one that a certificate speaks of
verdict.py     all of it for one document: what passed, and what did not

Nothing here needs torch, Django or a database: an auditor's machine has none of them. `cryptography` is imported
where something is signed or a signature is looked at, and not before.
"""

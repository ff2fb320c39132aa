"""Heimdall from anywhere: `from heimdall import Client`, the command `heimdall`, cards in notebooks.

asynchronous/ is written by people; synchronous/ is made of it by `make client`, so there is one copy of the logic.
Nothing here imports torch or Django.
"""

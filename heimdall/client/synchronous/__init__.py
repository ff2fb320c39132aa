# Made of asynchronous/__init__.py by `make client`: change it there.
"""The client for code without an event loop."""

"""The client for code with an event loop. The synchronous one is made of these modules."""

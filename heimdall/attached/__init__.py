"""Other people's training code under Heimdall: a loop of their own, their Trainer, or any command."""

"""A module that breaks the rule for what a fork server may import."""

import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()

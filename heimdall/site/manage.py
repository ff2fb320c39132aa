"""Heimdall's command line: `manage.py` in a checkout, `heimdall-server` where it is installed."""

import os
import sys


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit("heimdall: the server needs Python 3.11 or newer. The client and trainings run on 3.10 too.")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "heimdall.site.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"heimdall: {error}")

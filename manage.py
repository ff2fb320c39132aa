#!/usr/bin/env python
"""Heimdall's command line: `manage.py help` lists the commands."""

from heimdall.site.manage import main

if __name__ == "__main__":
    main()

"""Where a transmitter is, from real reports of receivers.

reports.py        CSV or JSON, checked line by line, as transmissions
geodesy.py        the earth as it is: WGS 84, tangent planes, curved ground
classical.py      every position that the times of arrival allow, and whether they contradict each other
beacons.py        clock offsets of the receivers from transmissions whose position is known
late.py           how probable it is that an arrival was late
layouts.py        whether a trained network may be believed for these receivers
network.py        what the trained network answers (torch)
answers.py        one answer of all of it, as JSON
geographic.py     answers as GeoJSON and KML
__main__.py       a process of its own that answers, for who must not load torch
"""

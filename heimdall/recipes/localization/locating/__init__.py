"""Where a transmitter is, from real reports of receivers.

values.py         single values as people write them
tables.py         CSV and JSON as rows
reports.py        rows as transmissions, checked: whoever is wrong is told line and field
geodesy.py        the earth as it is: WGS 84, tangent planes, curved ground
classical.py      every position that the times of arrival allow
checking.py       whether they contradict each other, and whose are wrong
beacons.py        clock offsets of the receivers from transmissions whose position is known
late.py           how probable it is that an arrival was late
layouts.py        whether a trained network may be believed for these receivers
network.py        what the trained network answers (torch)
ellipses.py       half axes, bearing, and rings of places
locator.py        all of it together, for many transmissions
answers.py        one answer, as the API, the command and the page show it
suggestion.py     the settings of a training for these receivers
geographic.py     answers as GeoJSON and KML
__main__.py       a process of its own that answers, for who must not load torch
"""

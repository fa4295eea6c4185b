"""A swarm that audits a folder of Python code and writes a report.

A scout lists the files, analysts read them side by side, a reviewer questions the
analysts about what looks worst and merges what they found, and a writer composes the
report. Read `program.py` first: it is the whole plan on one page.
"""

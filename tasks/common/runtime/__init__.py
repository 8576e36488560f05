"""The machine and the process: device, the processes of a distributed run, signals, progress bars, the
repository's folder.
"""

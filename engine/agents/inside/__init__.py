"""The loop with a model, as it runs in a process of its own: no network, no key, no files but Python and this folder.

Nothing here imports anything else of ours: the folder is all that the process sees of Signalbox.
"""

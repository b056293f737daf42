"""The command line `replog`: `replog wal ...`, and what works on a running cluster. Needs the extra `replog[cli]`."""

"""The node: storage, core, state machine and transport joined by one owner task."""

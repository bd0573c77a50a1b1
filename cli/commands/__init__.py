"""One file a command: its options, its help, and the objects that it wires. The group imports one when it is called."""

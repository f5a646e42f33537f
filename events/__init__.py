"""The vocabulary: states, events, what follows from them, and how errors speak. No SQL, no clock, no I/O."""

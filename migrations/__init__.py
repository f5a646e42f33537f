"""What is to change: definitions, their SQL, the ledger, and the two databases behind one small protocol."""

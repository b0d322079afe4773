"""What the daemon and its clients agree on: messages, schema, queries, rules. No I/O."""

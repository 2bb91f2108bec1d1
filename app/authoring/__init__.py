"""What workflow authors write with: definitions, steps, the context. `app` re-exports it."""

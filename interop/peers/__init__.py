"""Programs that make other stacks into endpoints: told by their environment what to do, as ours is."""

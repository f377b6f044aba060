"""Run the main job on one machine with embedded parts: nothing to configure, nothing left running."""

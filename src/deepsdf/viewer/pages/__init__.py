"""The viewer's panels and controls."""
